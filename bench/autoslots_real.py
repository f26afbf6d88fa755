"""One scene for real, with processes, sockets and an emulator: whether the others are true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import mean
from typing import Any

import aiohttp

from bench.loader import Loader, body
from bench.processes import free_port, python, running
from bench.report import Table
from bench.stack import inferline
from bench.stats import percentile

KNEE = 8
PER_SECOND = 20.0
#: More than are tried; the others wait in the queue.
STREAMS = 40
FIXED = (6, 7, 8, 9, 10)
FIXED_SECONDS = 60.0
FOUND_SECONDS = 240.0
#: Left out at the beginning: the filling, and the search.
FILLED_AT = 15.0
SETTLED_AT = 120.0
LOOK_SECONDS = 1.0


async def measure(load: Loader, *, quick: bool) -> list[dict[str, Any]]:
    """A run for each number that is set, and one in which it is found."""
    found = []
    for slots in (KNEE, None) if quick else (*FIXED, None):
        async with backend() as url, inferline(url, slots=slots) as ours:
            seconds = FIXED_SECONDS if slots else FOUND_SECONDS
            found.append({"slots": slots, **await _run(load, ours.url, url, seconds)})
    return found


@asynccontextmanager
async def backend() -> AsyncIterator[str]:
    """The engine as a process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flags = ("--port", str(port), "--knee", str(KNEE), "--tokens-per-second", str(PER_SECOND))
    command = python("bench.autoslots_backend", *flags)
    async with running("backend", command, ready_url=f"{url}/health"):
        yield url


async def _run(load: Loader, url: str, backend_url: str, seconds: float) -> dict[str, Any]:
    limits: list[tuple[float, int]] = []
    begun = (await _get(f"{backend_url}/_bench/made"))["now"]
    following = asyncio.create_task(_follow(f"{url}/v1/providers", limits))
    await load.run(url, body(stream=True), STREAMS, seconds=seconds, spread=1.0)
    following.cancel()
    told = await _get(f"{backend_url}/_bench/made")
    made = {int(at): count for at, count in told["made"].items()}
    return {
        "made": [made.get(int(begun) + at, 0) for at in range(round(seconds))],
        "firsts": [[round(at - begun, 1), round(took, 2)] for at, took in told["firsts"]],
        "limits": limits,
    }


async def _follow(url: str, limits: list[tuple[float, int]]) -> None:
    """See how many slots there are said to be."""
    clock = asyncio.get_running_loop().time
    begun = clock()
    while True:
        (told,) = (await _get(url))["data"]
        if not limits or limits[-1][1] != told["slots"]:
            limits.append((round(clock() - begun, 1), told["slots"]))
        await asyncio.sleep(LOOK_SECONDS)


async def _get(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.json()


def tell(runs: list[dict[str, Any]], near: float) -> Table:
    """The numbers that were set, and what was found."""
    rows, most = [], 0.0
    for run in runs:
        begin = FILLED_AT if run["slots"] else SETTLED_AT
        done = mean(run["made"][int(begin) :])
        if run["slots"]:
            most = max(most, done)
        first = percentile([took for at, took in run["firsts"] if at >= begin], 0.95)
        share = f"{100 * done / most:.1f} %" if most else ""
        slots = f"{run['slots']}" if run["slots"] else f"found: {run['limits'][-1][1]}"
        rows.append([slots, f"{done:.1f}", share, f"{first:.2f}"])
    head = ["slots", "tokens/s", "of the best", "first token p95, s"]
    note = (
        f"For real: provider, gateway, emulator and an engine with a knee at {KNEE} are processes. "
        f"{STREAMS} clients ask again and again.\nThe found ones from {SETTLED_AT:g} s on, by the "
        "last number that the gateway was told."
    )
    return Table("Automatic slots with real processes", head, rows, note)
