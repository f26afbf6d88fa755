"""
The scripted LLM server as the measurements need it: it also tells when each answer began and ended.

    python -m bench.backend --port P [--first-token-seconds S] [--tokens-per-second N] [--tokens N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import uvloop
from aiohttp import web

from tests.support.backend import Backend, Script, serving

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: What every contender is asked for.
MODEL = "bench-model"
#: In so many equal steps the first token sways.
SWAY_STEPS = 4


class TimedBackend(Backend):
    """
    A Backend that notes the span of each answer by its own clock, in milliseconds.

    Its first token can sway: each answer's comes a step later than that of the one before, and
    after the last step the first one's turn is again. A router that looks for news by the clock
    would else be lucky or unlucky every time alike.
    """

    def __init__(self, script: Script, sway_seconds: float) -> None:
        super().__init__(models=(MODEL,), slots=1, script=script)
        self._spans: list[tuple[float, float]] = []
        step = sway_seconds / (SWAY_STEPS - 1)
        self._scripts = itertools.cycle(
            [replace(script, first=script.first + step * turn) for turn in range(SWAY_STEPS)]
        )

    def app(self) -> web.Application:
        """Return the app, with `GET /_bench/spans`, which hands the spans out and forgets them."""
        app = super().app()
        app.middlewares.append(self._timed)
        app.router.add_get("/_bench/spans", self._hand_out)
        return app

    @web.middleware
    async def _timed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method != "POST":
            return await handler(request)
        start = time.monotonic()
        self.script = next(self._scripts)
        try:
            return await handler(request)
        finally:
            self._spans.append((start * 1000, time.monotonic() * 1000))

    async def _hand_out(self, request: web.Request) -> web.Response:
        spans, self._spans = self._spans, []
        return web.json_response(spans)


async def serve(backend: Backend, port: int) -> None:
    async with serving(backend, port):
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the scripted LLM of the measurements.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--first-token-seconds", type=float, default=0.05)
    parser.add_argument("--first-token-sway-seconds", type=float, default=0.0)
    parser.add_argument("--tokens-per-second", type=float, default=25.0, help="0: all at once")
    parser.add_argument("--tokens", type=int, default=32)
    flags = parser.parse_args()
    interval = 1 / flags.tokens_per_second if flags.tokens_per_second else 0.0
    script = Script(first=flags.first_token_seconds, interval=interval, tokens=flags.tokens)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(TimedBackend(script, flags.first_token_sway_seconds), flags.port))


if __name__ == "__main__":
    main()
