"""What open streams cost one process: resident memory, and CPU time for each delivered chunk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

from bench.harness import machine, rounds
from bench.harness.loader import Loader, body
from bench.harness.processes import Running
from bench.harness.rounds import MACHINE, Watched
from bench.harness.stack import OURS, Contender, InferLine, backend, calls, inferline, litellm
from bench.report import Goal, Table, goals, progress

STREAMS, QUICK_STREAMS = 1000, 200
#: Tokens a second of a stream, and how often it is measured. So slow that each token is a chunk of
#: its own; the first time also loads code and grows pools, which is no cost of a stream.
SPEEDS = {0.5: 2, 2.0: 1}
#: More than all that is measured takes.
TOKENS = 1000
#: The streams begin spread over this, one by one. Who has not begun after that is told.
SPREAD_SECONDS, BEGIN_SECONDS = 20.0, 60.0
#: Until what is to settle has settled, and then for so long the streams are watched.
SETTLE_SECONDS = 5.0
WATCH_SECONDS, QUICK_WATCH_SECONDS = 20.0, 8.0

#: What is to be reached: a read is shared, whatever the streams wait for, and everybody keeps up.
READS_MAX = 1.0
CAME_MIN = 0.98


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    streams = QUICK_STREAMS if quick else STREAMS
    seconds = QUICK_WATCH_SECONDS if quick else WATCH_SECONDS
    speeds: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for per_second, times in SPEEDS.items():
        turns = speeds.setdefault(f"{per_second:g}", {})
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            slow = await enter(backend(first=0.05, per_second=per_second, tokens=TOKENS))
            ours = await enter(inferline(slow.url, slots=streams + 8))
            contenders: list[Contender] = [ours, await enter(litellm(slow.url))]
            for number in range(1 if quick else times):
                for contender in contenders:
                    label = f"{streams} streams of {per_second:g} tokens/s, {contender.name}"
                    progress(f"{label}, time {number + 1}")
                    turn = await _turn(load, contender, slow.router, streams, seconds)
                    turns.setdefault(contender.name, []).append(turn)
    return {"cores": machine.cores(), "streams": streams, "speeds": speeds}


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
    asked = body(stream=True)
    begun = await load.hold(contender.url, asked, streams, BEGIN_SECONDS, SPREAD_SECONDS)
    await look()
    before, counted, at = await load.held(), await _calls(contender), time.monotonic()
    with Watched([*own, server, load, MACHINE]) as cpu:
        await asyncio.sleep(seconds)
    lasted = time.monotonic() - at
    after, calls_after = await load.held(), await _calls(contender)
    still = await load.let_go()
    await look()
    return {
        "seconds": round(lasted, 2),
        "begun": begun,
        "still_open": still,
        "tokens": after["tokens"] - before["tokens"],
        "pieces": after["pieces"] - before["pieces"],
        "rss_kib_before_open_after": sizes,
        "cpu_ms": cpu.ms,
        "calls": {name: count - counted.get(name, 0) for name, count in calls_after.items()},
    }


async def _calls(contender: Contender) -> dict[str, int]:
    """
    Return the calls of an InferLine so far; the items of batches under the operation's name and
    `items`.
    """
    if not isinstance(contender, InferLine):
        return {}
    counts = await calls(contender.aws_url)
    return counts["calls"] | {f"{name} items": count for name, count in counts["items"].items()}


def tell(raw: dict[str, Any]) -> list[Table]:
    return [goals("Open streams", _goals(raw)), _memory(raw), _chunks(raw), _reads(raw)]


def _turns(raw: dict[str, Any]) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    """Yield speed, contender, which time it was, and what was found."""
    for speed, by_name in raw["speeds"].items():
        for contender, turns in by_name.items():
            for number, turn in enumerate(turns, 1):
                yield speed, contender, number, turn


def _came(raw: dict[str, Any], speed: str, turn: dict[str, Any]) -> float:
    """Return the share that came of the tokens that the backend had to tell meanwhile."""
    return float(turn["tokens"] / (raw["streams"] * float(speed) * turn["seconds"]))


def _goals(raw: dict[str, Any]) -> list[Goal]:
    """Return the goals of every run: reads are shared, and all tokens came."""
    reached = []
    for speed, contender, number, turn in _turns(raw):
        if contender != OURS:
            continue
        what = f"{raw['streams']} streams of {speed} tokens/s, time {number}"
        reads, came = _each(turn, "BatchGetItem"), _came(raw, speed, turn)
        is_shared, keeps_up = reads < READS_MAX, came >= CAME_MIN
        wanted = f"< {READS_MAX:g}"
        reached.append(Goal(f"reads a chunk, {what}", wanted, f"{reads:.3f}", is_shared))
        wanted = f">= {CAME_MIN:.0%}"
        reached.append(Goal(f"tokens that came, {what}", wanted, f"{came:.0%}", keeps_up))
    return reached


def _each(turn: dict[str, Any], name: str) -> float:
    """Return the calls, or CPU milliseconds of a process, for each chunk that was delivered."""
    return float((turn["calls"] | turn["cpu_ms"]).get(name, 0) / max(1, turn["pieces"]))


def _memory(raw: dict[str, Any]) -> Table:
    rows = []
    for speed, contender, number, turn in _turns(raw):
        for process, (before, held, after) in turn["rss_kib_before_open_after"].items():
            cells = [f"{size / 1024:.1f}" for size in (before, held, after)]
            each = f"{(held - before) / raw['streams']:.1f}"
            rows.append([contender, process, f"{speed} tokens/s", str(number), *cells, each])
    return Table(
        f"Memory: resident MiB with 0 and with {raw['streams']} open streams in one process",
        [
            "asked",
            "process",
            "streams of",
            "time",
            "none open",
            "all open",
            "after",
            "KiB a stream",
        ],
        rows,
        "The first time also loads code and grows pools; the second time shows what is reused.",
    )


def _chunks(raw: dict[str, Any]) -> Table:
    rows = []
    for speed, contender, number, turn in _turns(raw):
        busy = turn["cpu_ms"]["machine"] / turn["seconds"] / 10 / raw["cores"]
        each = [f"{who} {_each(turn, who):.2f}" for who in turn["cpu_ms"] if who != "machine"]
        cells = [str(turn["begun"]), f"{_came(raw, speed, turn):.0%}"]
        cells += [f"{turn['pieces'] / turn['seconds']:.0f}"]
        cells += [f"{turn['tokens'] / max(1, turn['pieces']):.2f}", ", ".join(each), f"{busy:.0f}"]
        rows.append([f"{speed} tokens/s", contender, str(number), *cells])
    return Table(
        f"Chunks: {raw['streams']} streams in one process",
        [
            "streams of",
            "asked",
            "time",
            "begun",
            "tokens that came",
            "chunks/s",
            "tokens a chunk",
            "CPU ms a delivered chunk",
            "machine, percent",
        ],
        rows,
        "A chunk is what reaches a client at once. Tokens that came are a share of those that the "
        "backend has to tell in that time: less than 100 % means that somebody, or the machine, "
        "does not keep up.",
    )


def _reads(raw: dict[str, Any]) -> Table:
    rows = []
    for speed, contender, number, turn in _turns(raw):
        if contender != OURS:
            continue
        cells = []
        for name in ("BatchGetItem", "BatchWriteItem"):
            made, items = turn["calls"].get(name, 0), turn["calls"].get(f"{name} items", 0)
            cells += [f"{made / turn['seconds']:.0f}", f"{_each(turn, name):.3f}"]
            cells += [f"{items / max(1, made):.1f}"]
        rows.append([f"{speed} tokens/s", str(number), *cells])
    return Table(
        "Shared calls: what InferLine reads and writes for the chunks",
        [
            "streams of",
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
