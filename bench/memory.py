"""What an open stream costs a process: resident memory with none, with many, and after them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from bench import rounds
from bench.loader import Loader, body
from bench.report import note, table
from bench.stack import Contender, backend, inferline, litellm

STREAMS = 200
#: One token every two seconds, for far longer than the measurement.
PER_SECOND = 0.5
TOKENS = 1000
#: Until all streams have begun, and then until what is to settle has settled.
BEGIN_SECONDS = 60.0
SETTLE_SECONDS = 5.0


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    found: dict[str, list[int]] = {}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        slow = await enter(backend(first=0.05, per_second=PER_SECOND, tokens=TOKENS))
        ours = await enter(inferline(slow.url, slots=STREAMS + 8))
        contenders: list[Contender] = [ours, await enter(litellm(slow.url))]
        # Twice: the first time also loads code and grows pools, which is no cost of a stream.
        for _ in range(1 if quick else 2):
            for contender in contenders:
                for name, sizes in (await _sizes(load, contender)).items():
                    found.setdefault(name, []).extend(sizes)
    _print(found)
    return {"rss_kib_before_open_after": found}


async def _sizes(load: Loader, contender: Contender) -> dict[str, list[int]]:
    """Resident KiB of each process before, while and after the streams are open."""
    watched = rounds.processes(contender)
    sizes: dict[str, list[int]] = {process.name: [] for process in watched}

    async def look() -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        for process in watched:
            sizes[process.name].append(process.rss_kib)

    await look()
    await load.hold(contender.url, body(stream=True), STREAMS, BEGIN_SECONDS)
    await look()
    await load.let_go()
    await look()
    return sizes


def _print(found: dict[str, list[int]]) -> None:
    rows = []
    for name, sizes in found.items():
        for turn in range(0, len(sizes), 3):
            before, held, after = sizes[turn : turn + 3]
            cells = [f"{size / 1024:.1f}" for size in (before, held, after)]
            each = f"{(held - before) / STREAMS:.1f}"
            rows.append([name, str(turn // 3 + 1), *cells, each])
    table(
        f"Memory: resident MiB with 0 and with {STREAMS} open streams",
        ["process", "time", "none open", f"{STREAMS} open", "after", "KiB for each stream"],
        rows,
    )
    note("The first time also loads code and grows pools; the second time shows what is reused.")
