"""How long a slot that falls free waits until its next task runs at the backend."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from bench import probe
from bench.loader import Loader, body
from bench.report import note, table
from bench.stack import backend, inferline
from bench.stats import median, percentile

SLOTS = (1, 2, 3, 4)
BACKLOG = 50
#: A task of one slot takes 50 ms and then 10 tokens of 10 ms each, less the first: 140 ms.
FIRST_SECONDS = 0.05
PER_SECOND = 100.0
TOKENS = 10
#: The order in which the backlog is built is not under measurement: this long at the most.
BUILD_SECONDS = 0.5

Span = tuple[float, float]


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        server = await enter(backend(first=FIRST_SECONDS, per_second=PER_SECOND, tokens=TOKENS))
        gaps: dict[int, list[float]] = {}
        receives: list[float] = []
        for slots in (SLOTS[0], SLOTS[-1]) if quick else SLOTS:
            async with inferline(server.url, slots=slots) as ours:
                receives += (await probe.probe(ours.aws_url, 10))[probe.RECEIVE]
                gaps[slots] = []
                for _ in range(1 if quick else 3):
                    gaps[slots] += await _drain(load, ours.url, server.url, slots)
                receives += (await probe.probe(ours.aws_url, 10))[probe.RECEIVE]
    _print(gaps, receives)
    return {"gaps_ms": gaps, "emulator_receive_ms": receives}


async def _drain(load: Loader, url: str, backend_url: str, slots: int) -> list[float]:
    """Milliseconds that each freed slot stood empty while a backlog was worked off."""
    await _spans(backend_url)
    asked = body(stream=True)
    await load.run(url, asked, BACKLOG, requests=1, tokens=TOKENS, spread=BUILD_SECONDS)
    return empty(await _spans(backend_url), slots)


def empty(spans: Sequence[Span], slots: int) -> list[float]:
    """
    How long each slot that fell free stood empty.

    The first ``slots`` tasks fill the slots; from then on the n-th end makes room for the n-th
    start after them. What ends when no backlog is left has no such start and is not counted.
    """
    starts = sorted(start for start, _ in spans)[slots:]
    ends = sorted(end for _, end in spans)
    return [start - end for start, end in zip(starts, ends, strict=False)]


async def _spans(backend_url: str) -> list[Span]:
    """When each answer since the last look began and ended, by the backend's clock."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{backend_url}/_bench/spans") as response,
    ):
        return [(start, end) for start, end in await response.json()]


def _print(gaps: dict[int, list[float]], receives: list[float]) -> None:
    receive = median(receives)
    rows = []
    for slots, found in gaps.items():
        middle = median(found)
        cells = [percentile(found, share) for share in (0.9, 0.99)]
        cells += [min(found), max(found), middle - receive]
        rows.append([str(slots), f"{middle:.1f}", *(f"{cell:.1f}" for cell in cells)])
        rows[-1].append(str(len(found)))
    table(
        f"Refill: a slot falls free while tasks wait (backlog of {BACKLOG}); milliseconds until "
        "its next task runs",
        ["slots", "p50", "p90", "p99", "least", "most", "p50 less one receive", "refills"],
        rows,
    )
    note(
        f"By the backend's clock alone: from the end of an answer to the start of the next. One "
        f"receive of a waiting\nmessage took the emulator {receive:.2f} ms (p50) in the same run."
    )
