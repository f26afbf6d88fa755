"""What open streams cost one process: resident memory, and CPU time for each delivered chunk."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from bench import machine, rounds
from bench.loader import Loader, body
from bench.processes import Running
from bench.report import Goal, Table, goals, progress
from bench.rounds import MACHINE, Watched
from bench.stack import OURS, Contender, InferLine, backend, calls, inferline, litellm

STREAMS, QUICK_STREAMS = 1000, 200
#: A slow model: each token is a chunk of its own, and there are many looks for each.
PER_SECOND = 2.0
#: More than all that is measured takes.
TOKENS = 1000
#: The streams begin spread over this, one by one, and all must have by then.
SPREAD_SECONDS, BEGIN_SECONDS = 20.0, 150.0
#: Until what is to settle has settled, and then for so long the streams are watched.
SETTLE_SECONDS = 5.0
WATCH_SECONDS, QUICK_WATCH_SECONDS = 20.0, 8.0
TURNS, QUICK_TURNS = 2, 1

#: What is to be reached: a read is shared, whatever the streams wait for, and everybody keeps up.
READS_MAX = 1.0
CAME_MIN = 0.98


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    streams = QUICK_STREAMS if quick else STREAMS
    seconds = QUICK_WATCH_SECONDS if quick else WATCH_SECONDS
    turns: dict[str, list[dict[str, Any]]] = {}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        slow = await enter(backend(first=0.05, per_second=PER_SECOND, tokens=TOKENS))
        ours = await enter(inferline(slow.url, slots=streams + 8))
        contenders: list[Contender] = [ours, await enter(litellm(slow.url))]
        # Twice: the first time also loads code and grows pools, which is no cost of a stream.
        for number in range(QUICK_TURNS if quick else TURNS):
            for contender in contenders:
                progress(f"time {number + 1}, {streams} streams of {contender.name}")
                found = await _turn(load, contender, slow.router, streams, seconds)
                turns.setdefault(contender.name, []).append(found)
    return {"cores": machine.cores(), "streams": streams, "turns": turns}


async def _turn(
    load: Loader, contender: Contender, server: Running, streams: int, seconds: float
) -> dict[str, Any]:
    """Open the streams, watch them, let them go."""
    own = rounds.processes(contender)
    sizes: dict[str, list[int]] = {process.name: [] for process in own}

    async def look() -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        for process in own:
            sizes[process.name].append(process.rss_kib)

    await look()
    await load.hold(contender.url, body(stream=True), streams, BEGIN_SECONDS, SPREAD_SECONDS)
    await look()
    before, counted, begun = await load.held(), await _calls(contender), time.monotonic()
    with Watched([*own, server, load, MACHINE]) as cpu:
        await asyncio.sleep(seconds)
    lasted = time.monotonic() - begun
    after, calls_after = await load.held(), await _calls(contender)
    still = await load.let_go()
    await look()
    return {
        "seconds": round(lasted, 2),
        "still_open": still,
        "tokens": after["tokens"] - before["tokens"],
        "pieces": after["pieces"] - before["pieces"],
        "rss_kib_before_open_after": sizes,
        "cpu_ms": cpu.ms,
        "calls": {name: count - counted.get(name, 0) for name, count in calls_after.items()},
    }


async def _calls(contender: Contender) -> dict[str, int]:
    """Calls of an InferLine so far; the items of batches under the operation's name and `items`."""
    if not isinstance(contender, InferLine):
        return {}
    told = await calls(contender.aws_url)
    return told["calls"] | {f"{name} items": count for name, count in told["items"].items()}


def tell(raw: dict[str, Any]) -> list[Table]:
    return [goals("Open streams", _goals(raw)), _memory(raw), _chunks(raw), _reads(raw)]


def _goals(raw: dict[str, Any]) -> list[Goal]:
    """Of every time: that reads are shared, and that all tokens came."""
    turns = raw["turns"][OURS]
    reads = max(turn["calls"].get("BatchGetItem", 0) / turn["pieces"] for turn in turns)
    came = min(turn["tokens"] / _wanted(raw, turn) for turn in turns)
    what = f"{raw['streams']} streams"
    read, told = f"reads a delivered chunk, {what}", f"tokens that came, {what}"
    return [
        Goal(read, f"< {READS_MAX:g}", f"{reads:.3f}", reads < READS_MAX),
        Goal(told, f">= {CAME_MIN:.0%}", f"{came:.0%}", came >= CAME_MIN),
    ]


def _wanted(raw: dict[str, Any], turn: dict[str, Any]) -> float:
    """The tokens that the backend had to tell while the streams were watched."""
    return float(raw["streams"] * PER_SECOND * turn["seconds"])


def _memory(raw: dict[str, Any]) -> Table:
    rows = []
    for contender, turns in raw["turns"].items():
        for number, turn in enumerate(turns, 1):
            for process, (before, held, after) in turn["rss_kib_before_open_after"].items():
                cells = [f"{size / 1024:.1f}" for size in (before, held, after)]
                each = f"{(held - before) / raw['streams']:.1f}"
                rows.append([contender, process, str(number), *cells, each])
    return Table(
        f"Memory: resident MiB with 0 and with {raw['streams']} open streams in one process",
        ["asked", "process", "time", "none open", "all open", "after", "KiB a stream"],
        rows,
        "The first time also loads code and grows pools; the second time shows what is reused.",
    )


def _chunks(raw: dict[str, Any]) -> Table:
    rows = []
    for contender, turns in raw["turns"].items():
        for number, turn in enumerate(turns, 1):
            used = dict(turn["cpu_ms"])
            busy = used.pop("machine") / turn["seconds"] / 10 / raw["cores"]
            each = ", ".join(f"{name} {ms / turn['pieces']:.2f}" for name, ms in used.items())
            cells = [
                f"{turn['tokens'] / _wanted(raw, turn):.0%}",
                f"{turn['pieces'] / turn['seconds']:.0f}",
            ]
            cells += [f"{turn['tokens'] / turn['pieces']:.2f}", each, f"{busy:.0f}"]
            rows.append([contender, str(number), *cells])
    return Table(
        f"Chunks: {raw['streams']} streams of {PER_SECOND:g} tokens a second each",
        [
            "asked",
            "time",
            "tokens that came",
            "chunks/s",
            "tokens a chunk",
            "CPU ms a delivered chunk",
            "machine, percent",
        ],
        rows,
        "A chunk is what reaches a client at once. Tokens that came are a share of those that the "
        "backend has to tell in that time: less than 100 % means that somebody does not keep up.",
    )


def _reads(raw: dict[str, Any]) -> Table:
    rows = []
    for contender, turns in raw["turns"].items():
        for number, turn in enumerate(turns, 1):
            if not turn["calls"]:
                continue
            cells = []
            for name in ("BatchGetItem", "BatchWriteItem"):
                made, items = turn["calls"].get(name, 0), turn["calls"].get(f"{name} items", 0)
                cells += [f"{made / turn['seconds']:.0f}", f"{made / turn['pieces']:.3f}"]
                cells += [f"{items / max(1, made):.1f}"]
            rows.append([contender, str(number), *cells])
    return Table(
        "Shared calls: what is read and written for the chunks",
        [
            "asked",
            "time",
            "reads/s",
            "reads a chunk",
            "keys a read",
            "writes/s",
            "writes a chunk",
            "items a write",
        ],
        rows,
        "A read is a BatchGetItem of the gateway or of the provider, which asks for the rows and "
        "next chunks of many streams at once; a write is a BatchWriteItem of the provider.",
    )
