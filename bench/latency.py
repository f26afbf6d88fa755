"""What going through a router adds to the time to the first token, and to the whole answer."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from bench import probe, rounds
from bench.loader import Loader
from bench.report import note, table
from bench.rounds import Found, Runs
from bench.stack import Contender, backend, inferline, litellm
from bench.stats import median, percentile, spread

FIRST_SECONDS = 0.05
#: By this much the first token sways, more than the gateway pauses between two looks.
SWAY_SECONDS = 0.024
#: Tokens a second, and how many: a large model and a small one, answers of equal length.
SPEEDS = ((25.0, 32), (100.0, 128))
STREAMS = (1, 8, 32)
#: More than streams: nothing waits for a slot.
SLOTS = 64


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    return {
        f"{per_second:g} tokens a second": await _measure(load, per_second, tokens, quick=quick)
        for per_second, tokens in SPEEDS
    }


async def _measure(load: Loader, per_second: float, tokens: int, *, quick: bool) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        direct = await enter(
            backend(first=FIRST_SECONDS, sway=SWAY_SECONDS, per_second=per_second, tokens=tokens)
        )
        ours = await enter(inferline(direct.url, slots=SLOTS))
        contenders: list[Contender] = [direct, ours, await enter(litellm(direct.url))]
        turns = 2 if quick else 4
        times = await probe.probe(ours.aws_url, 20 if quick else 50)
        orders = _orders(FIRST_SECONDS + tokens / per_second, tokens, quick=quick)
        found = await rounds.interleave(load, contenders, orders, rounds=turns, stream=True)
        for what, more in (await probe.probe(ours.aws_url, 20 if quick else 50)).items():
            times[what] += more
    _print(found, per_second, tokens)
    _print_probe(times, found)
    return {"rounds": rounds.raw(found), "emulator_ms": times}


def _orders(length: float, tokens: int, *, quick: bool) -> dict[int, dict[str, Any]]:
    """Whole turns of the sway for each; streams begin spread over the length of one answer."""
    many = 1 if quick else 2
    return {
        streams: {
            "requests": 4 * many if streams == 1 else 2 * many,
            "spread": 0.0 if streams == 1 else length,
            "tokens": tokens,
        }
        for streams in STREAMS
    }


def _print(found: Found, per_second: float, tokens: int) -> None:
    rows = []
    for streams, by_name in found.items():
        direct = by_name["direct"]
        for name, runs in by_name.items():
            rows.append([str(streams), name, *_cells(runs, direct)])
    table(
        f"Latency: {tokens} tokens at {per_second:g} a second, the first after "
        f"{FIRST_SECONDS * 1000:g} to {(FIRST_SECONDS + SWAY_SECONDS) * 1000:g} ms; "
        "milliseconds more than the backend asked directly",
        [
            "streams",
            "asked",
            "first token p50 (rounds)",
            "p90",
            "p99",
            "whole p50 (rounds)",
            "p99",
            "CPU ms/answer",
            "answers",
        ],
        rows,
    )
    note(
        "The line of the backend is in milliseconds as measured; p50 (rounds) is the median of the "
        "rounds' medians\nand their least and greatest. CPU is that of the router's own process: "
        "InferLine's gateway, LiteLLM's proxy.\nA percentile of too few answers is left out."
    )


def _cells(runs: Runs, direct: Runs) -> list[str]:
    cells = []
    for mine, theirs, shares in (
        ([b.first for b in runs.blocks], [b.first for b in direct.blocks], (0.9, 0.99)),
        ([b.total for b in runs.blocks], [b.total for b in direct.blocks], (0.99,)),
    ):
        same = mine == theirs
        pairs = list(zip(mine, theirs, strict=True))
        middles = [median(a) - (0.0 if same else median(b)) for a, b in pairs]
        cells.append(spread(middles, 1, sign=not same))
        everyone = [[x for block in blocks for x in block] for blocks in (mine, theirs)]
        for share in shares:
            a, b = (percentile(samples, share) for samples in everyone)
            told = f"{a:.1f}" if same else f"{a - b:+.1f}"
            cells.append(told if len(everyone[0]) * (1 - share) >= 1 else "-")
    router = next(iter(runs.cpu_ms.values()))
    return [*cells, spread(router, 1), str(len(runs.total))]


def _print_probe(times: probe.Times, found: Found) -> None:
    table(
        "The emulator's part, measured alone before and after the above; milliseconds",
        ["call", "p50", "p90", "on the way to the first token"],
        [
            [
                what,
                f"{median(samples):.2f}",
                f"{percentile(samples, 0.9):.2f}",
                "yes" if what in probe.PATH_TO_FIRST_TOKEN else "no",
            ]
            for what, samples in times.items()
        ],
    )
    alone = found[1]
    pairs = zip(alone["InferLine"].blocks, alone["direct"].blocks, strict=True)
    added = median([median(ours.first) - median(direct.first) for ours, direct in pairs])
    share = probe.to_first_token(times)
    note(
        f"At 1 stream InferLine adds {added:.1f} ms to the first token: {share:.1f} ms are these "
        f"calls one after another,\n{added - share:.1f} ms are all else: the wait between the "
        "gateway's looks, and the work of gateway and provider."
    )
