"""An AWS that answers as a script says, for what no emulator does on request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Step = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedAws:
    """Answers each request with the next step of ``script``, and with an empty object after it."""

    def __init__(self, *script: Step) -> None:
        self.script = list(script)
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        step = self.script.pop(0) if self.script else says({})
        return await step(request)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ScriptedAws]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        async with TestServer(app) as server:
            self.url = str(server.make_url("/")).rstrip("/")
            yield self


def says(body: dict[str, Any], status: int = 200, date_s: float | None = None) -> Step:
    """Return a JSON answer, dated ``date_s`` seconds since 1970 or now."""
    return sends(json.dumps(body).encode(), status, date_s)


def refuses(code: str, status: int = 400, date_s: float | None = None, **members: Any) -> Step:
    """Return an error as DynamoDB writes it."""
    return says({"__type": code, "message": f"{code} happened", **members}, status, date_s)


def sends(
    body: bytes, status: int = 200, date_s: float | None = None, error_type: str = ""
) -> Step:
    """Return any answer; ``error_type`` is for the header that may name an error."""
    named = {"x-amzn-errortype": error_type} if error_type else {}

    async def step(request: web.Request) -> web.Response:
        return web.Response(
            body=body, status=status, headers={"Date": formatdate(date_s, usegmt=True), **named}
        )

    return step


def hangs_up() -> Step:
    """Return the connection ends where the answer should come."""

    async def step(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    return step


def after(wait: Callable[[], Awaitable[object]], step: Step) -> Step:
    """Return the same, later."""

    async def waiting(request: web.Request) -> web.StreamResponse:
        await wait()
        return await step(request)

    return waiting
