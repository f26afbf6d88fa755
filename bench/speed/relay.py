"""What a provider spends on passing streams on, and how many of their chunks share a write."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from bench.harness import machine, rounds
from bench.harness.loader import Loader, body
from bench.harness.rounds import MACHINE, Watched
from bench.harness.stack import backend, calls, inferline
from bench.harness.stats import median, spread
from bench.report import Chart, Goal, Table, goals, progress

SPEEDS = {25.0: 100, 100.0: 400}
STREAMS = (1, 8, 64)
FIRST_SECONDS = 0.05
#: Requests of each stream in a round.
REQUESTS = 2
ROUNDS, QUICK_ROUNDS = 3, 1
SLOTS = 80


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for per_second, tokens in SPEEDS.items():
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            server = await enter(backend(first=FIRST_SECONDS, per_second=per_second, tokens=tokens))
            ours = await enter(inferline(server.url, slots=SLOTS))
            asked = body(stream=True)
            await load.run(ours.url, asked, 8, requests=1, tokens=tokens)
            blocks = runs.setdefault(f"{per_second:g}", {})
            for streams in STREAMS:
                for number in range(QUICK_ROUNDS if quick else ROUNDS):
                    progress(f"{per_second:g} tokens/s, {streams} streams, round {number + 1}")
                    before = await calls(ours.aws_url)
                    with Watched([*rounds.processes(ours), server.router, load, MACHINE]) as cpu:
                        block = await load.run(
                            ours.url,
                            asked,
                            streams,
                            requests=REQUESTS,
                            tokens=tokens,
                            spread=0.0 if streams == 1 else tokens / per_second,
                        )
                    after = await calls(ours.aws_url)
                    used = {
                        kind: after[kind].get(WRITE, 0) - before[kind].get(WRITE, 0)
                        for kind in ("calls", "items")
                    }
                    one = {"answers": block.answers, "tokens": tokens * block.answers}
                    one |= {"seconds": block.seconds, "cpu_ms": cpu.ms, **used}
                    blocks.setdefault(str(streams), []).append(one)
    return {"cores": machine.cores(), "speeds": runs}


#: The call that writes chunks, of all tasks that have some.
WRITE = "BatchWriteItem"
#: What is to be reached where many streams flow: chunks of several tasks in one write.
SHARED_MIN = 2.0


def _goals(raw: dict[str, Any]) -> list[Goal]:
    reached = []
    for speed, by_streams in raw["speeds"].items():
        streams = max(by_streams, key=int)
        made, items = (sum(one[kind] for one in by_streams[streams]) for kind in ("calls", "items"))
        share = items / max(1, made)
        what = f"chunks a write, {streams} streams of {speed} tokens/s"
        is_met = share >= SHARED_MIN
        reached.append(Goal(what, f">= {SHARED_MIN:g}", f"{share:.1f}", is_met))
    return reached


def tell(raw: dict[str, Any]) -> list[Table | Chart]:
    rows = []
    lines: dict[str, list[tuple[float, float]]] = {}
    for speed, by_streams in raw["speeds"].items():
        for streams, blocks in by_streams.items():
            costs = [1000 * one["cpu_ms"]["provider"] / one["tokens"] for one in blocks]
            lines.setdefault(f"{speed} tokens/s", []).append((float(streams), median(costs)))
            made, items = (sum(one[kind] for one in blocks) for kind in ("calls", "items"))
            tokens = sum(one["tokens"] for one in blocks)
            seconds = sum(one["seconds"] for one in blocks)
            busy = sum(one["cpu_ms"]["machine"] for one in blocks) / seconds / 10 / raw["cores"]
            share = sum(one["cpu_ms"]["provider"] for one in blocks) / seconds / 10
            rows.append(
                [
                    f"{streams} x {speed} tokens/s",
                    spread(costs, 0),
                    f"{share:.0f}",
                    f"{items / max(1, made):.2f}",
                    f"{tokens / max(1, items):.1f}",
                    f"{made / seconds:.0f}",
                    f"{busy:.0f}",
                    str(len(blocks)),
                ]
            )
    return [
        goals("Relay", _goals(raw)),
        Table(
            "Relay: a provider that passes streams on",
            [
                "streams",
                "CPU ms for 1,000 tokens (rounds)",
                "percent of one core",
                "chunks a write",
                "tokens a chunk",
                "writes/s",
                "machine, percent",
                "rounds",
            ],
            rows,
            "CPU is that of the provider's process alone, everything included: receive, claim, "
            "relay, renew, finish. A write is one BatchWriteItem; what is left over at an answer's "
            "end goes with its last update and is not in it.",
        ),
        Chart("Provider: CPU for 1,000 tokens", "streams", "ms", lines, x_log=True, y_log=True),
    ]
