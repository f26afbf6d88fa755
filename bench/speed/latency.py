"""What going through a router adds: to the first token, between tokens, to the whole answer."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from bench.harness import machine, probe, rounds
from bench.harness.loader import Loader
from bench.harness.rounds import Found, Runs
from bench.harness.stack import DIRECT, FAR, OURS, Contender, backend, inferline, litellm
from bench.harness.stats import cumulative, median, percentile, spread, tells
from bench.report import Chart, Goal, Table, goals, progress
from inferline.settings import Settings

FIRST_SECONDS = 0.05
#: By this much the first token sways, more than the gateway pauses between two looks.
SWAY_SECONDS = 0.024
#: Tokens a second, and how many in an answer: a large model's of 8 s, a small one's of 5 s.
SPEEDS = {25.0: 200, 100.0: 500}
#: At how many streams, and the requests of each stream in a round.
STREAMS = {1: 4, 8: 5, 32: 2, 128: 1}
ROUNDS = 2
#: For a look: fewer answers, as long ones, since what is added shrinks beside what an answer takes.
QUICK_PROBES_SHARE = 0.25
QUICK_STREAMS = {1: 2, 8: 2, 32: 1, 128: 1}
#: More than streams: nothing waits for a slot.
SLOTS = 160
#: Calls of the probe before and after, each: enough for a 99th percentile where it is a promise.
PROBES, PROBES_FAR = 50, 200

#: What is to be reached with AWS's latencies, milliseconds more than direct; and the whole
#: answer's share of direct.
FIRST_P50_MAX, FIRST_P99_MAX = 60.0, 180.0
TOTAL_SHARE_MAX = 1.02


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    speeds = {}
    for per_second, tokens in SPEEDS.items():
        progress(f"{per_second:g} tokens a second")
        speeds[f"{per_second:g}"] = await _measure(load, per_second, tokens, quick=quick)
    flush_ms = 1000 * Settings().flush_seconds
    return {"cores": machine.cores(), "flush_ms": flush_ms, "speeds": speeds}


async def _measure(load: Loader, per_second: float, tokens: int, *, quick: bool) -> dict[str, Any]:
    length = FIRST_SECONDS + tokens / per_second
    orders = {
        streams: {
            "requests": requests,
            "tokens": tokens,
            # They begin spread over the length of one answer.
            "spread": 0.0 if streams == 1 else length,
        }
        for streams, requests in (QUICK_STREAMS if quick else STREAMS).items()
    }
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        direct = await enter(
            backend(first=FIRST_SECONDS, sway=SWAY_SECONDS, per_second=per_second, tokens=tokens)
        )
        ours = await enter(inferline(direct.url, slots=SLOTS))
        far = await enter(inferline(direct.url, slots=SLOTS, far=True))
        contenders: list[Contender] = [direct, ours, far, await enter(litellm(direct.url))]
        times = {OURS: {}, FAR: {}}
        await _probe(times, ours.aws_url, far.aws_url, quick=quick)
        all_runs = await rounds.interleave(
            load,
            contenders,
            orders,
            rounds=1 if quick else ROUNDS,
            stream=True,
            others=[direct.router],
        )
        await _probe(times, ours.aws_url, far.aws_url, quick=quick)
    return {"tokens": tokens, "rounds": rounds.raw(all_runs), "emulator_ms": times}


async def _probe(times: dict[str, probe.Times], near: str, far: str, *, quick: bool) -> None:
    share = QUICK_PROBES_SHARE if quick else 1
    for name, url, tries in ((OURS, near, PROBES), (FAR, far, PROBES_FAR)):
        progress(f"the emulator of {name} alone")
        more = await probe.probe(url, round(tries * share), far=name == FAR)
        for what, samples in more.items():
            times[name].setdefault(what, []).extend(samples)


def tell(raw: dict[str, Any]) -> list[Table | Chart]:
    items: list[Table | Chart] = []
    speeds = {speed: rounds.read(one["rounds"]) for speed, one in raw["speeds"].items()}
    for speed, one in raw["speeds"].items():
        what = _what(one["tokens"], speed)
        items += [
            _added(speeds[speed], one["tokens"], speed),
            _gaps(speeds[speed], what, raw["flush_ms"]),
        ]
        items += [_load(speeds[speed], what, raw["cores"])]
        items += [_firsts(speeds[speed], what), _gap_chart(speeds[speed], what)]
    times = {speed: one["emulator_ms"] for speed, one in raw["speeds"].items()}
    for name in (OURS, FAR):
        items.append(
            probe.table(name, probe.merged([one[name] for one in times.values()]), far=name == FAR)
        )
    return [
        goals("Latency as of AWS", _goals(speeds, raw["flush_ms"])),
        *items,
        _path(speeds, times),
    ]


def _what(tokens: int, speed: str) -> str:
    return f"{tokens} tokens at {speed} a second"


def _added(all_runs: Found, tokens: int, speed: str) -> Table:
    length = (tokens - 1) / float(speed)
    what = _what(tokens, speed)
    rows = [
        [str(streams), name, *_cells(runs, direct), str(len(runs.total))]
        for streams, name, runs, direct in rounds.each(all_runs)
    ]
    return Table(
        f"Latency: {what}; milliseconds more than direct",
        [
            "streams",
            "asked",
            "first token p50 (rounds)",
            "p90",
            "p99",
            "whole p50 (rounds)",
            "p99",
            "of direct",
            "answers",
        ],
        rows,
        f"By its script the backend's first token comes after {FIRST_SECONDS * 1000:g} to "
        f"{(FIRST_SECONDS + SWAY_SECONDS) * 1000:g} ms, and its last one {length * 1000:.0f} ms "
        "later: what the line `direct` has above that, the machine has added. That line is in "
        "milliseconds as measured. p50 (rounds) is the median of the rounds' medians with the "
        "least and the greatest of them; other percentiles are of all answers, and left out where "
        "these are too few; `of direct` is the median whole answer's share of direct. `far` has "
        "the emulator answer as late as AWS.",
    )


def _cells(runs: Runs, direct: Runs) -> list[str]:
    cells = []
    for mine, theirs, shares in (
        ([b.first for b in runs.blocks], [b.first for b in direct.blocks], (0.9, 0.99)),
        ([b.total for b in runs.blocks], [b.total for b in direct.blocks], (0.99,)),
    ):
        same = runs is direct
        pairs = zip(mine, theirs, strict=True)
        middles = [median(a) - (0.0 if same else median(b)) for a, b in pairs]
        cells.append(spread(middles, 1, sign=not same))
        everyone = [[x for block in blocks for x in block] for blocks in (mine, theirs)]
        for share in shares:
            a, b = (percentile(samples, share) for samples in everyone)
            cells.append(
                (f"{a:.1f}" if same else f"{a - b:+.1f}") if tells(everyone[0], share) else "-"
            )
    return [*cells, f"{median(runs.total) / median(direct.total):.3f}"]


def _gaps(all_runs: Found, what: str, flush_ms: float) -> Table:
    rows = []
    for streams, name, runs, direct in rounds.each(all_runs):
        bursts = runs.bursts
        sizes = [size for size, count in bursts.items() for _ in range(count)]
        cells = [spread(runs.gap(share), 1) for share in (0.5, 0.99)]
        added = [a - b for a, b in zip(runs.gap(0.99), direct.gap(0.99), strict=True)]
        cells += ["" if runs is direct else spread(added, 1, sign=True)]
        cells += [f"{sum(sizes) / len(sizes):.1f}", f"{percentile(sizes, 0.99)}", f"{max(sizes)}"]
        rows.append([str(streams), name, *cells, str(sum(sizes))])
    return Table(
        f"Between two tokens: {what}; milliseconds",
        [
            "streams",
            "asked",
            "p50 (rounds)",
            "p99 (rounds)",
            "p99 more than direct",
            "tokens at once, mean",
            "p99",
            "most",
            "tokens",
        ],
        rows,
        "As the client has them: tokens that come in one read have no time between them. "
        f"InferLine writes a stream each {flush_ms:g} ms, so that some tokens come together, and "
        "the next ones that much later.",
    )


def _load(all_runs: Found, what: str, cores: int) -> Table:
    rows = []
    for streams, name, runs, _ in rounds.each(all_runs):
        router = next(iter(runs.cpu_ms))
        tokens = sum(size * count for size, count in runs.bursts.items())
        each = [spread(runs.cpu_each(router), 1), f"{sum(runs.cpu_ms[router]) / tokens * 1000:.0f}"]
        rows.append([str(streams), name, *each, *rounds.load_cells(runs, cores)])
    return Table(
        f"CPU: {what}",
        [
            "streams",
            "asked",
            "router, ms an answer (rounds)",
            "router, ms for 1,000 tokens",
            *list(rounds.LOAD_HEAD),
        ],
        rows,
        "The router is the process that clients talk to: the backend itself, InferLine's gateway, "
        f"LiteLLM's proxy. {rounds.load_note(cores)}",
    )


def _firsts(all_runs: Found, what: str) -> Chart:
    most = max(all_runs)
    lines = {
        f"{name}, {streams} at once": cumulative(runs.first)
        for streams, name, runs, _ in rounds.each(all_runs)
        if streams in (8, most)
    }
    return Chart(f"First token: {what}", "ms", "percent of answers", lines, x_log=True)


def _gap_chart(all_runs: Found, what: str) -> Chart:
    lines: dict[str, list[tuple[float, float]]] = {}
    for streams, name, runs, _ in rounds.each(all_runs):
        lines.setdefault(name, []).append((streams, median(runs.gap(0.99))))
    return Chart(f"Between two tokens, p99: {what}", "streams", "ms", lines, x_log=True, y_log=True)


def _path(speeds: dict[str, Found], times: dict[str, dict[str, probe.Times]]) -> Table:
    rows = []
    for speed, by_streams in speeds.items():
        alone = by_streams[min(by_streams)]
        for name, calls in times[speed].items():
            pairs = zip(alone[name].blocks, alone[DIRECT].blocks, strict=True)
            added = median([median(ours.first) - median(direct.first) for ours, direct in pairs])
            share = probe.to_first_token(calls)
            cells = [f"{added:.1f}", f"{share:.1f}", f"{added - share:.1f}"]
            rows.append([f"{name}, {speed} tokens/s", *cells])
    return Table(
        "What is added to the first token of one stream alone; milliseconds",
        ["", "added, p50", "calls one after another", "the rest"],
        rows,
        "The calls as the probe found them alone. The rest is the wait between the gateway's looks "
        "for news, and the work of gateway and provider.",
    )


def _goals(speeds: dict[str, Found], flush_ms: float) -> list[Goal]:
    """Return what the distant line reached, at each number of streams."""
    reached = []
    for streams in next(iter(speeds.values())):
        pairs = {speed: (one[streams][FAR], one[streams][DIRECT]) for speed, one in speeds.items()}
        for share, most in ((0.5, FIRST_P50_MAX), (0.99, FIRST_P99_MAX)):
            if all(tells(runs.first, share) for runs, _ in pairs.values()):
                added = {
                    speed: percentile(runs.first, share) - percentile(direct.first, share)
                    for speed, (runs, direct) in pairs.items()
                }
                reached.append(_goal(f"first token p{share * 100:g}", streams, added, most))
        gaps = {
            speed: median(runs.gap(0.99)) - median(direct.gap(0.99))
            for speed, (runs, direct) in pairs.items()
        }
        reached.append(_goal("between tokens p99", streams, gaps, flush_ms))
        ratios = {
            speed: median(runs.total) / median(direct.total)
            for speed, (runs, direct) in pairs.items()
        }
        text = ", ".join(f"{ratio:.3f} at {speed}/s" for speed, ratio in ratios.items())
        is_met = max(ratios.values()) <= TOTAL_SHARE_MAX
        what = f"whole answer, {streams} streams"
        reached.append(Goal(what, f"<= {TOTAL_SHARE_MAX:g} x direct", text, is_met))
    return reached


def _goal(what: str, streams: int, added: dict[str, float], most: float) -> Goal:
    text = ", ".join(f"{ms:+.1f} at {speed}/s" for speed, ms in added.items())
    is_met = max(added.values()) <= most
    return Goal(f"{what}, {streams} streams", f"<= +{most:g} ms", text, is_met)
