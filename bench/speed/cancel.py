"""How long a cancelled request still holds its slot at the backend."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from bench.harness.loader import Loader, body, chat
from bench.harness.processes import BenchError
from bench.harness.stack import backend, inferline
from bench.harness.stats import cumulative, median, percentile
from bench.report import Chart, Table, progress

CANCELS = 100
QUICK_CANCELS = 15
#: An answer of 40 s: none ends by itself.
PER_SECOND = 10.0
TOKENS = 400
#: It has run for so long when it is cancelled: the provider looks each 0.4 s, and so no phase of
#: that is preferred. Drawn with a seed.
RUN_SECONDS = (0.5, 1.3)
FREE_SECONDS_MAX = 10.0

#: Cancels one request; when it did so, by the clock of this machine.
Way = Callable[[aiohttp.ClientSession, str, float], Awaitable[float]]


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    """
    Return the milliseconds from each cancel until its slot was free, by the way in which it was
    made.
    """
    draw = random.Random(5)
    times: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        server = await enter(backend(per_second=PER_SECOND, tokens=TOKENS))
        ours = await enter(inferline(server.url, slots=1))
        session = await enter(aiohttp.ClientSession())
        for name, way in WAYS.items():
            progress(name)
            times[name] = []
            for _ in range(QUICK_CANCELS if quick else CANCELS):
                left = await way(session, ours.url, draw.uniform(*RUN_SECONDS))
                freed = await _freed(session, server.url)
                times[name].append(round(freed - left * 1000, 1))
    return {"freed_ms": times}


async def _leave_stream(session: aiohttp.ClientSession, url: str, seconds: float) -> float:
    async with session.post(chat(url), json=body(stream=True)) as response:
        await response.content.readany()
        await asyncio.sleep(seconds)
        response.close()
        return time.monotonic()


async def _leave_whole(session: aiohttp.ClientSession, url: str, seconds: float) -> float:
    asking = asyncio.ensure_future(session.post(chat(url), json=body(stream=False)))
    await asyncio.sleep(seconds)
    asking.cancel()
    return time.monotonic()


async def _by_route(session: aiohttp.ClientSession, url: str, seconds: float) -> float:
    async with session.post(chat(url), json=body(stream=True)) as response:
        await response.content.readany()
        await asyncio.sleep(seconds)
        cancelled = time.monotonic()
        task = response.headers["x-request-id"]
        async with session.post(f"{url}/v1/tasks/{task}/cancel") as cancellation:
            cancellation.raise_for_status()
        await response.read()
        return cancelled


WAYS: dict[str, Way] = {
    "its client hangs up in a stream": _leave_stream,
    "its client hangs up before a whole answer": _leave_whole,
    "POST /v1/tasks/{id}/cancel": _by_route,
}


async def _freed(session: aiohttp.ClientSession, backend_url: str) -> float:
    """
    Return when the one answer since the last look ended, by the backend's clock, milliseconds.
    """
    patience = time.monotonic() + FREE_SECONDS_MAX
    while time.monotonic() < patience:
        async with session.get(f"{backend_url}/_bench/spans") as response:
            spans = await response.json()
        if spans:
            [(_, end)] = spans
            return float(end)
        await asyncio.sleep(0.02)
    raise BenchError(f"a cancelled request still ran after {FREE_SECONDS_MAX:g} s")


def tell(raw: dict[str, Any]) -> list[Table | Chart]:
    freed: dict[str, list[float]] = raw["freed_ms"]
    rows = []
    for name, times in freed.items():
        cells = [median(times), *(percentile(times, share) for share in (0.9, 0.99)), max(times)]
        rows.append([name, *(f"{cell:.0f}" for cell in cells), str(len(times))])
    return [
        Table(
            "Cancel: milliseconds from then until the backend's slot is free",
            ["how", "p50", "p90", "p99", "most", "cancels"],
            rows,
            "The provider hears of it at its next look at its tasks' states, one each 0.4 s.",
        ),
        Chart(
            "From a cancel to a free slot",
            "ms",
            "percent of cancels",
            {name: cumulative(times) for name, times in freed.items()},
        ),
    ]
