"""A proxy before an emulator of AWS, for who wants to see, count or disturb what passes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from tests.support.emulators import free_port

#: Headers that are of one connection only, or that aiohttp writes itself.
_NOT_PASSED_ON = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})


class Proxy:
    """Passes everything on to the emulator, unchanged. What passes is a subclass's to look at."""

    def __init__(self, target: str) -> None:
        self._target = target
        #: Where it is, once it serves.
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve in this event loop, and give the address."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self.handle)
        # A caller that leaves takes its long poll with it.
        runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await runner.setup()
        port = free_port()
        # Shorter than the emulator keeps its connections: none is used that it is about to close.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)
        timeout = aiohttp.ClientTimeout(total=None)
        try:
            async with aiohttp.ClientSession(
                connector=connector, timeout=timeout, auto_decompress=False
            ) as self._session:
                await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
                self.url = f"http://127.0.0.1:{port}"
                yield self.url
        finally:
            await runner.cleanup()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        return await self.pass_on(request, await request.read())

    async def pass_on(self, request: web.Request, body: bytes) -> web.Response:
        """Return the emulator's answer to a call."""
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _NOT_PASSED_ON}
        async with self._session.request(
            request.method, self._target + request.raw_path, data=body, headers=headers
        ) as response:
            answer = await response.read()
            headers = {k: v for k, v in response.headers.items() if k.lower() not in _NOT_PASSED_ON}
            return web.Response(status=response.status, body=answer, headers=headers)
