"""
The load generator, a process of its own: reads orders as JSON lines, answers each with its samples.

Closed loop: each of an order's streams has one request open at a time. The streams begin spread
over time, so that they do not run in step.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any

import aiohttp
import uvloop

#: The first bytes of an answer's text, whichever way its JSON is spaced.
TOKEN = re.compile(rb'"content": ?"[^"]')
DONE = b"data: [DONE]"
ERRORS_KEPT = 5


class Order:
    """One block of load on one address, and what came of it."""

    def __init__(self, order: dict[str, Any], session: aiohttp.ClientSession) -> None:
        self._url: str = order["url"]
        self._body = json.dumps(order["body"], separators=(",", ":")).encode()
        self._streamed: bool = order["body"].get("stream", False)
        #: Tokens that a whole answer has; 0: any.
        self._tokens: int = order.get("tokens", 0)
        self._streams: int = order["streams"]
        #: Requests of each stream, and seconds after which none begins; one of them is given.
        self._requests: int = order.get("requests") or sys.maxsize
        self._seconds: float = order.get("seconds") or float("inf")
        self._spread: float = order.get("spread", 0.0)
        self._session = session
        self._samples: list[tuple[float, float]] = []
        self._errors: list[str] = []
        self._failed = 0

    async def run(self) -> dict[str, Any]:
        begun = time.perf_counter()
        self._until = begun + self._seconds
        async with asyncio.TaskGroup() as group:
            for number in range(self._streams):
                group.create_task(self._stream(number))
        return {
            "samples": self._samples,
            "seconds": time.perf_counter() - begun,
            "failed": self._failed,
            "errors": self._errors,
        }

    async def _stream(self, number: int) -> None:
        await asyncio.sleep(self._spread * number / self._streams)
        for _ in range(self._requests):
            if time.perf_counter() >= self._until:
                return
            try:
                self._samples.append(await (self._follow() if self._streamed else self._ask()))
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                self._failed += 1
                if len(self._errors) < ERRORS_KEPT:
                    self._errors.append(f"{type(error).__name__}: {error}"[:300])

    async def _ask(self) -> tuple[float, float]:
        """Milliseconds of one request that is answered at once: until the head, and in all."""
        sent = time.perf_counter()
        async with self._session.post(self._url, data=self._body) as response:
            first = time.perf_counter()
            text = await response.read()
            if response.status != 200 or not TOKEN.search(text):
                raise ValueError(f"{response.status}: {text[:200]!r}")
        return (first - sent) * 1000, (time.perf_counter() - sent) * 1000

    async def _follow(self) -> tuple[float, float]:
        """Milliseconds of one stream: until the first token, and in all."""
        sent = time.perf_counter()
        first = 0.0
        text = bytearray()
        async with self._session.post(self._url, data=self._body) as response:
            async for piece in response.content.iter_any():
                text += piece
                if not first and TOKEN.search(text):
                    first = time.perf_counter()
            ended = time.perf_counter()
            found = len(TOKEN.findall(text))
            if response.status != 200 or DONE not in text or found != (self._tokens or found):
                raise ValueError(f"{response.status}, {found} tokens: {bytes(text[-200:])!r}")
        return (first - sent) * 1000, (ended - sent) * 1000


class Held:
    """Streams that are opened and left open."""

    def __init__(self, order: dict[str, Any], session: aiohttp.ClientSession) -> None:
        self._order = order
        self._session = session
        self._open = 0
        self._all = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> dict[str, Any]:
        self._tasks = [asyncio.create_task(self._hold()) for _ in range(self._order["streams"])]
        async with asyncio.timeout(self._order["seconds"]):
            await self._all.wait()
        return {"open": self._open}

    async def _hold(self) -> None:
        body = json.dumps(self._order["body"]).encode()
        async with self._session.post(self._order["url"], data=body) as response:
            seen = False
            async for _ in response.content.iter_any():
                if not seen:
                    seen = True
                    self._open += 1
                    if self._open == self._order["streams"]:
                        self._all.set()

    async def close(self) -> dict[str, Any]:
        """Go away, as a client does: without waiting for the end."""
        still = sum(not task.done() for task in self._tasks)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return {"still": still}


async def main() -> None:
    loop = asyncio.get_running_loop()
    held: Held | None = None
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=300),
        headers={"Content-Type": "application/json"},
    ) as session:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            order = json.loads(line)
            if order["do"] == "run":
                answer = await Order(order, session).run()
            elif order["do"] == "hold":
                held = Held(order, session)
                answer = await held.open()
            else:
                answer = await held.close() if held else {}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
