"""
The load generator, a process of its own: reads orders as JSON lines, answers each with its samples.

Closed loop: each of an order's streams has a connection, and one request open at a time. The
streams begin spread over time, so that they do not run in step.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from typing import Any

import uvloop

from bench.harness.client import ANSWER_SECONDS_MAX, Answer, Broken, Connection, post

ERRORS_KEPT = 5
#: Gaps are told rounded, milliseconds: up to so much, to this.
GAP_STEPS = ((100.0, 0.5), (1000.0, 2.0), (float("inf"), 20.0))

#: Milliseconds of one request: until its first token, and in all.
Sample = tuple[float, float]


class Order:
    """One block of load on one address, and what came of it."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._url: str = order["url"]
        body = json.dumps(order["body"], separators=(",", ":")).encode()
        self._request = post(self._url, body, order.get("headers") or {})
        self._streamed: bool = order["body"].get("stream", False)
        #: Tokens that a whole answer has; 0: any.
        self._tokens: int = order.get("tokens", 0)
        self._streams: int = order["streams"]
        #: Requests of each stream, and seconds after which none begins; one of them is given.
        self._requests: int = order.get("requests") or sys.maxsize
        self._seconds: float = order.get("seconds") or float("inf")
        self._spread: float = order.get("spread", 0.0)
        #: Who has waited for an answer for so long, seconds, has none.
        self._patience: float = order.get("patience") or ANSWER_SECONDS_MAX
        #: So many samples are told at the most.
        self._samples_max: int = order.get("samples_max") or sys.maxsize
        self._samples: list[Sample] = []
        self._gaps: Counter[float] = Counter()
        self._bursts: Counter[int] = Counter()
        self._errors: list[str] = []
        self._failed = 0
        self._received = 0

    async def run(self) -> dict[str, Any]:
        begun = time.perf_counter()
        self._until = begun + self._seconds
        async with asyncio.TaskGroup() as group:
            for number in range(self._streams):
                group.create_task(self._stream(number))
        return {
            "answers": len(self._samples),
            "samples": thinned(self._samples, self._samples_max),
            "gaps": {f"{gap:g}": count for gap, count in sorted(self._gaps.items())},
            "bursts": dict(sorted(self._bursts.items())),
            "seconds": round(time.perf_counter() - begun, 3),
            "received": self._received,
            "failed": self._failed,
            "errors": self._errors,
        }

    async def _stream(self, number: int) -> None:
        await asyncio.sleep(self._spread * number / self._streams)
        connection: Connection | None = None
        for _ in range(self._requests):
            if time.perf_counter() >= self._until:
                break
            try:
                if connection is None or not connection.is_open:
                    connection = await Connection.to(self._url)
                self._note(await connection.ask(self._request, self._patience))
            except (Broken, OSError, ValueError) as error:
                if connection is not None:
                    connection.close()
                connection = None
                self._failed += 1
                if len(self._errors) < ERRORS_KEPT:
                    self._errors.append(f"{type(error).__name__}: {error}"[:300])
        if connection is not None:
            connection.close()

    def _note(self, answer: Answer) -> None:
        """Keep what an answer tells. Raises ValueError if it is not whole."""
        is_whole = answer.done if self._streamed else answer.tokens == 1
        wanted = self._tokens or answer.tokens
        if answer.status != 200 or not is_whole or (self._streamed and answer.tokens != wanted):
            raise ValueError(f"{answer.status}, {answer.tokens} tokens: {answer.tail[-200:]!r}")
        sample = (answer.first - answer.sent, answer.ended - answer.sent)
        self._received += answer.received
        self._samples.append((round(sample[0] * 1000, 2), round(sample[1] * 1000, 2)))
        self._bursts.update(answer.bursts)
        self._gaps.update(rounded(gap * 1000) for gap in answer.gaps)
        # What came in one read with the token before it came without a gap.
        together = answer.tokens - answer.bursts.total()
        if together:
            self._gaps[0.0] += together


def thinned(samples: list[Sample], most: int) -> list[Sample]:
    """Return at most so many of the samples, evenly from first to last."""
    count = min(most, len(samples))
    return [samples[at * len(samples) // count] for at in range(count)]


def rounded(ms: float) -> float:
    """Return a gap as it is told: nobody needs more, and a million of them fit a line."""
    step = next(step for most, step in GAP_STEPS if ms < most)
    return round(ms / step) * step


class Held:
    """Streams that are opened and left open."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._connections: list[Connection] = []
        self._ends: list[asyncio.Future[None]] = []

    async def open(self) -> dict[str, Any]:
        """Open all, one after another; return when the last has begun, or they had their time."""
        order = self._order
        request = post(order["url"], json.dumps(order["body"]).encode())
        begun = time.perf_counter()
        for number in range(order["streams"]):
            due = begun + order.get("spread", 0.0) * number / order["streams"]
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            connection = await Connection.to(order["url"])
            self._connections.append(connection)
            self._ends.append(connection.begin(request))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(order["seconds"]):
                for connection in self._connections:
                    await connection.begun.wait()
        return self.state()

    def state(self) -> dict[str, Any]:
        """
        Return how many are open and have begun, the tokens that have come, and in how many pieces.
        """
        answers = [connection.answer for connection in self._connections]
        return {
            "open": sum(not end.done() for end in self._ends),
            "begun": sum(answer.tokens > 0 for answer in answers),
            "tokens": sum(answer.tokens for answer in answers),
            "pieces": sum(answer.bursts.total() for answer in answers),
        }

    def close(self) -> dict[str, Any]:
        """Go away, as a client does: without waiting for the end."""
        state = self.state()
        for connection, end in zip(self._connections, self._ends, strict=True):
            end.cancel()
            connection.close()
        return state


async def main() -> None:
    loop = asyncio.get_running_loop()
    held: Held | None = None
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if order["do"] == "run":
                answer = await Order(order).run()
            elif order["do"] == "hold":
                held = Held(order)
                answer = await held.open()
            elif held is not None:
                answer = held.close() if order["do"] == "release" else held.state()
        except (OSError, TimeoutError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
