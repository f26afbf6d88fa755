"""One scene for real, with processes, sockets and an emulator: whether the others are true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import mean
from typing import Any

import aiohttp

from bench.harness.loader import Loader, body
from bench.harness.processes import free_port, python, running
from bench.harness.stack import inferline
from bench.harness.stats import percentile
from bench.report import Goal, Table, progress

KNEE = 8
PER_SECOND = 20.0
#: More than are tried; the others wait in the queue.
STREAMS = 40
FIXED, FIXED_QUICK = (6, 7, 8, 9, 10), (KNEE, KNEE + 1)
FIXED_SECONDS = 60.0
FOUND_SECONDS, FOUND_SECONDS_QUICK = 240.0, 180.0
#: Left out at the beginning: the filling, and the search.
FILLED_AT = 15.0
SETTLED_AT = 120.0
LOOK_SECONDS = 1.0


async def measure(load: Loader, *, quick: bool) -> list[dict[str, Any]]:
    """Return a run for each number that is set, and one in which it is found."""
    results, seconds_found = [], FOUND_SECONDS_QUICK if quick else FOUND_SECONDS
    for slots in (*FIXED_QUICK, None) if quick else (*FIXED, None):
        async with backend() as url, inferline(url, slots=slots) as ours:
            progress(f"real: {slots or 'results'}")
            seconds = FIXED_SECONDS if slots else seconds_found
            results.append({"slots": slots, **await _run(load, ours.url, url, seconds)})
    return results


@asynccontextmanager
async def backend() -> AsyncIterator[str]:
    """Yield the engine as a process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flags = ("--port", str(port), "--knee", str(KNEE), "--tokens-per-second", str(PER_SECOND))
    command = python("bench.autoslots.backend", *flags)
    async with running("backend", command, ready_url=f"{url}/health"):
        yield url


async def _run(load: Loader, url: str, backend_url: str, seconds: float) -> dict[str, Any]:
    limits: list[tuple[float, int]] = []
    begun = (await _get(f"{backend_url}/_bench/made"))["now"]
    following = asyncio.create_task(_follow(f"{url}/v1/providers", limits))
    await load.run(url, body(stream=True), STREAMS, seconds=seconds, spread=1.0)
    following.cancel()
    counts = await _get(f"{backend_url}/_bench/made")
    made = {int(at): count for at, count in counts["made"].items()}
    return {
        "made": [made.get(int(begun) + at, 0) for at in range(round(seconds))],
        "firsts": [[round(at - begun, 1), round(took, 2)] for at, took in counts["firsts"]],
        "limits": limits,
    }


async def _follow(url: str, limits: list[tuple[float, int]]) -> None:
    """See how many slots there are said to be."""
    clock = asyncio.get_running_loop().time
    begun = clock()
    while True:
        (provider,) = (await _get(url))["data"]
        if not limits or limits[-1][1] != provider["slots"]:
            limits.append((round(clock() - begun, 1), provider["slots"]))
        await asyncio.sleep(LOOK_SECONDS)


async def _get(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.json()


def table(runs: list[dict[str, Any]]) -> Table:
    """Return the numbers that were set, and what was found."""
    most, rows = max(_rate(run) for run in runs if run["slots"]), []
    for run in runs:
        begin, limits = _begin(run), [limit for _, limit in run["limits"]]
        first = percentile([took for at, took in run["firsts"] if at >= begin], 0.95)
        slots = f"{run['slots']}" if run["slots"] else f"found: {limits[-1]}"
        rows.append(
            [slots, f"{_rate(run):.1f}", f"{100 * _rate(run) / most:.1f} %", f"{first:.2f}"]
        )
    return Table(
        "Automatic slots with real processes",
        ["slots", "tokens/s", "of the best set", "first token p95, s"],
        rows,
        f"Provider, gateway, emulator and an engine with a knee at {KNEE} are processes. {STREAMS} "
        f"clients ask again and again. The found ones from {SETTLED_AT:g} s on, trials included; "
        "which number is the last that the gateway was told.",
    )


def goals(runs: list[dict[str, Any]], near: float) -> list[Goal]:
    """
    Return whether as much is done with the slots that are found as with the best that are set.
    """
    most = max(_rate(run) for run in runs if run["slots"])
    return [
        Goal(
            "throughput, real processes",
            f">= {near:.0%} of the best set",
            f"{_rate(run) / most:.1%}",
            _rate(run) >= near * most,
        )
        for run in runs
        if run["slots"] is None
    ]


def _begin(run: dict[str, Any]) -> float:
    return FILLED_AT if run["slots"] else SETTLED_AT


def _rate(run: dict[str, Any]) -> float:
    """Return the tokens a second."""
    return mean(run["made"][int(_begin(run)) :])
