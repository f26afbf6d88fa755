"""The gateway as a process: serves the app until it is asked to end, and ends cleanly."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn

from inferline.gateway import metrics, page
from inferline.gateway.app import create_app, open_office
from inferline.settings import Settings
from inferline.trace import NO_TRACER, Tracer

#: How long requests under way may go on after the gateway was asked to end.
GRACE_SECONDS: Final = 10
#: How long an idle connection stays: longer than clients keep theirs, so that none is cut in use.
KEEP_ALIVE_SECONDS: Final = 75


class Server(uvicorn.Server):
    """uvicorn's server, but a signal that was obeyed is not raised again: the exit code is 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on SIGINT and SIGTERM; at once on the second."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def run(settings: Settings, host: str, port: int, tracer: Tracer = NO_TRACER) -> None:
    """Serve until a signal. Raises Unavailable or SettingsError when it can't begin."""
    counted = metrics.GatewayMetrics()

    async def serve() -> None:
        async with open_office(settings, ledgers=[counted], tracer=tracer) as office:
            app = create_app(office)
            page.add(app)
            metrics.add(app, counted)
            config = uvicorn.Config(
                app,
                host=host,
                port=port,
                log_level="warning",
                access_log=False,
                server_header=False,
                # Who asks is told by a key, never by an address that a header claims.
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
            await Server(config).serve()

    loop_factory = uvicorn.Config("").get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve())
