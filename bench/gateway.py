"""What a request costs the router: answers a second, and CPU time of its process."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from bench import rounds
from bench.loader import Loader
from bench.report import note, table
from bench.rounds import Found
from bench.stack import Contender, backend, inferline, litellm
from bench.stats import median, percentile, spread

STREAMS = (1, 8, 32)
#: More than requests at a time: nothing waits for a slot.
SLOTS = 64
TOKENS = 16


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        direct = await enter(backend(first=0, per_second=0, tokens=TOKENS))
        ours = await enter(inferline(direct.url, slots=SLOTS))
        contenders: list[Contender] = [direct, ours, await enter(litellm(direct.url))]
        seconds = 2.0 if quick else 5.0
        orders = {streams: {"seconds": seconds} for streams in STREAMS}
        found = await rounds.interleave(
            load, contenders, orders, rounds=2 if quick else 5, stream=False
        )
    _print(found)
    return rounds.raw(found)


def _print(found: Found) -> None:
    rows = []
    for streams, by_name in found.items():
        theirs = median(by_name["LiteLLM"].cpu_ms["litellm"])
        for name, runs in by_name.items():
            own, *others = runs.cpu_ms.items()
            ratio = "" if name == "direct" else f"{theirs / median(own[1]):.1f}x"
            rest = ", ".join(f"{who} {median(costs):.2f}" for who, costs in others)
            p50, p99 = (percentile(runs.total, share) for share in (0.5, 0.99))
            rows.append(
                [
                    str(streams),
                    name,
                    spread(runs.rates),
                    f"{p50:.1f}",
                    f"{p99:.1f}",
                    spread(own[1], 2),
                    ratio,
                    rest,
                ]
            )
    table(
        "Router: chat completions, not streamed, of a backend that answers at once",
        [
            "at once",
            "asked",
            "answers/s (rounds)",
            "p50 ms",
            "p99 ms",
            "CPU ms/answer (rounds)",
            "LiteLLM needs",
            "other processes, CPU ms/answer",
        ],
        rows,
    )
    note(
        "CPU is user and system time of the process that clients talk to: the backend itself, "
        "InferLine's gateway,\nLiteLLM's proxy. All run on the same cores, the load generator too, "
        "and InferLine's emulator besides."
    )
