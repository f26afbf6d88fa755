"""
The engine with a known knee behind HTTP, for a provider that is real.

    python -m bench.autoslots.backend --port P --knee K --tokens-per-second R
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools

import uvloop
from aiohttp import web

from bench.autoslots.engine import DONE, LAST, TOKEN, Engine, queueing
from bench.harness.backend import MODEL

SEED = 1


def app(engine: Engine) -> web.Application:
    """Return chat completions as streams; `GET /_bench/made` hands out what was done until now."""
    numbers = itertools.count()

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        async for left in engine.answer(next(numbers)):
            await response.write(TOKEN if left else LAST)
        await response.write(DONE)
        return response

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def health(request: web.Request) -> web.Response:
        return web.Response()

    async def made(request: web.Request) -> web.Response:
        return web.json_response(
            {
                "now": asyncio.get_running_loop().time(),
                "made": dict(engine.made),
                "firsts": engine.firsts,
            }
        )

    served = web.Application()
    served.router.add_post("/v1/chat/completions", answer)
    served.router.add_get("/v1/models", models)
    served.router.add_get("/health", health)
    served.router.add_get("/_bench/made", made)
    return served


async def serve(engine: Engine, port: int) -> None:
    runner = web.AppRunner(app(engine), handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a scripted LLM engine with a known knee.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--knee", type=int, required=True)
    parser.add_argument("--tokens-per-second", type=float, required=True)
    flags = parser.parse_args()
    engine = Engine(queueing(flags.knee, flags.tokens_per_second), SEED)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(engine, flags.port))


if __name__ == "__main__":
    main()
