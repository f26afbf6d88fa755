"""
LLM servers of unequal speed in one process, each with so many slots and a queue behind them.

    python -m bench.dispatch.backend PORT:SLOTS:TOKENS_PER_SECOND ...

As a real one does, a server takes every request at once and works on as many as it has slots, first
come, first served. A chat's last message is two numbers: of the request, and how many tokens its
answer has.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from contextlib import AsyncExitStack

import uvloop
from aiohttp import web

from bench.harness.backend import MODEL

#: Where the first of them hands out when it, and all others, began with which request.
BEGUN_PATH = "/_bench/begun"

#: By the number of a request: the moment, by the machine's monotonic clock, and the server's place.
Begun = dict[int, tuple[float, int]]


class Server:
    """One of them."""

    def __init__(self, place: int, slots: int, tokens_per_second: float, begun: Begun) -> None:
        self._place = place
        self._slots = asyncio.Semaphore(slots)
        self._tokens_per_second = tokens_per_second
        self._begun = begun

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get(BEGUN_PATH, self._hand_out)
        app.router.add_post("/v1/chat/completions", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        asked = await request.json()
        number, tokens = map(int, asked["messages"][-1]["content"].split())
        async with self._slots:
            self._begun.setdefault(number, (time.monotonic(), self._place))
            await asyncio.sleep(tokens / self._tokens_per_second)
        message = {"role": "assistant", "content": "x"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}
        same = {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
        }
        return web.json_response({**same, "choices": [choice], "usage": usage})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": MODEL, "object": "model", "created": 1, "owned_by": "bench"}
        return web.json_response({"object": "list", "data": [model]})

    async def _hand_out(self, request: web.Request) -> web.Response:
        rows = [[number, *begun] for number, begun in self._begun.items()]
        self._begun.clear()
        return web.json_response(rows)


async def serve(fleet: list[str]) -> None:
    begun: Begun = {}
    async with AsyncExitStack() as stack:
        for place, one in enumerate(fleet):
            port, slots, speed = one.split(":")
            app = Server(place, int(slots), float(speed), begun).app()
            runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", int(port), backlog=4096).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(sys.argv[1:]))
