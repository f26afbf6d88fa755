"""The gateway as a process: serves the app until it is asked to end, and ends cleanly."""

from __future__ import annotations

import asyncio
import gc
import math
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import uvicorn

from inferline.gateway.app import open_gateway
from inferline.gateway.edge.protocol import Http1Protocol
from inferline.gateway.parts import GatewayParts
from inferline.gateway.routes import metrics, page
from inferline.settings import Settings
from inferline.telemetry.trace import NO_TRACER, Tracer

#: How long clients may take to read that they must go elsewhere; slower ones are cut off then.
CUT_OFF_SECONDS: Final = 2
#: A connection that was accepted as the gateway was asked to end is known by then.
LATE_SECONDS: Final = 0.5
#: How long an idle connection stays: longer than clients keep theirs, so that none is cut in use.
KEEP_ALIVE_SECONDS: Final = 75


class Server(uvicorn.Server):
    """
    uvicorn's server, but it sends unfinished requests elsewhere, and ends with the exit code 0.

    After the first signal it accepts no connections and finishes its requests. After
    ``drain_seconds`` or the second signal it tells the remaining clients to go elsewhere; at the
    third signal it ends at once.
    """

    def __init__(self, config: uvicorn.Config, parts: GatewayParts) -> None:
        super().__init__(config)
        self._parts = parts

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on SIGINT and SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.force_exit = self._parts.closing.is_set()
        if self.should_exit:
            self._parts.closing.set()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve what is under way, and return when no call is left."""
        loop = asyncio.get_running_loop()
        loop.call_later(self._parts.settings.drain_seconds, self._parts.closing.set)
        loop.call_later(LATE_SECONDS, self._close_idle)
        await super().shutdown(sockets)
        # Requests that were cut off still have to write that to the store.
        self._parts.closing.set()
        calls = list(self.server_state.tasks)
        for call in calls if self.force_exit else ():
            call.cancel()
        if calls:
            await asyncio.wait(calls, timeout=CUT_OFF_SECONDS)

    def _close_idle(self) -> None:
        for connection in list(self.server_state.connections):
            connection.shutdown()


def run(settings: Settings, host: str, port: int, tracer: Tracer = NO_TRACER) -> None:
    """Serve until a signal. Raises Unavailable or SettingsError when it can't begin."""
    counted = metrics.GatewayMetrics()

    async def serve() -> None:
        async with open_gateway(settings, ledgers=[counted], tracer=tracer) as app:
            page.add(app)
            metrics.add(app, counted)
            config = uvicorn.Config(
                app,
                host=host,
                port=port,
                # Its lines go through our logging, which leaves out exceptions' messages.
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                # There are no WebSockets, whatever happens to be installed.
                ws="none",
                http=Http1Protocol,
                # Callers are known by keys, never by an address that a header claims.
                proxy_headers=False,
                timeout_graceful_shutdown=math.ceil(settings.drain_seconds) + CUT_OFF_SECONDS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
            # The objects made so far stay: garbage collection need not visit them each time.
            gc.freeze()
            await Server(config, app.parts).serve()

    loop_factory = uvicorn.Config("").get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve())
