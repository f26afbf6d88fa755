"""Who waits for a slot, how long, and for which: InferLine beside LiteLLM and an ideal queue."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any

from bench import dispatch_real as real
from bench import probe
from bench.dispatch_line import simulate
from bench.dispatch_trace import Fate, Host, Trace, ideal, make
from bench.far import SEND_TO_RECEIVE
from bench.loader import Loader
from bench.report import Chart, Table
from bench.stack import emulator
from bench.stats import percentile

FAST, MEDIUM, SLOW = Host(4, 100.0), Host(4, 50.0), Host(4, 25.0)
#: Eight hosts of three speeds.
FLEET = (FAST,) * 2 + (MEDIUM,) * 3 + (SLOW,) * 3
LOADS = (0.6, 0.8, 0.9)

#: Who waits no longer than this is served well, seconds.
LIMIT_SECONDS = 2.0
#: The goals: p99 of waiting over the ideal one, less one receive; and p99 of the total time over
#: that of indifferent pulling, at the least load.
WAIT_TIMES, TOTAL_TIMES = 1.15, 0.7

MAIN = "2 fast, 3 medium, 3 slow"
#: Simulated: which fleet, and how its arrivals differ.
SCENES: dict[str, tuple[Sequence[Host], dict[str, float]]] = {
    MAIN: (FLEET, {}),
    "3 fast, 3 medium, 2 slow": ((FAST,) * 3 + (MEDIUM,) * 3 + (SLOW,) * 2, {}),
    "16 fast slots, 3 medium, 4 slow of 2": (
        (Host(16, 100.0), *(MEDIUM,) * 3, *(Host(2, 25.0),) * 4),
        {},
    ),
    "1 fast, 7 slow": ((FAST,) + (SLOW,) * 7, {}),
    "8 alike": ((MEDIUM,) * 8, {}),
    "4 fast of 8, 8 medium, 28 slow": ((Host(8, 100.0),) * 4 + (MEDIUM,) * 8 + (SLOW,) * 28, {}),
    "2 fast, 3 medium, 3 slow; bursts of 2 times": (FLEET, {"swell": 2.0}),
    "2 fast, 3 medium, 3 slow; no bursts": (FLEET, {"swell": 1.0}),
}
SECONDS = 600.0
SEEDS, SEEDS_OF_SCENES = range(1, 9), range(1, 4)

#: The real thing: so much faster than the simulated, its length, and what comes before it counts.
SPEEDUP = 5.0
REAL_SECONDS, REAL_SECONDS_QUICK = 60.0, 20.0
REAL_SEED = 1
WARM_SECONDS, WARM_LOAD = 15.0, 0.5

AWARE, INDIFFERENT, IDEAL = "InferLine", "InferLine, indifferent", "ideal"

Raw = dict[str, Any]
#: Of the samples, in tables.
SHARES = (0.5, 0.95, 0.99)


async def measure(load: Loader, *, quick: bool) -> Raw:
    return {"simulated": await _simulated(quick=quick), "real": await _real(quick=quick)}


async def _simulated(*, quick: bool) -> list[Raw]:
    """Each trace on the line, indifferent and not, and on the ideal queue."""
    jobs = [(MAIN, load, seed) for load in LOADS for seed in SEEDS[: 2 if quick else None]]
    if not quick:
        jobs += [(scene, LOADS[0], n) for scene in SCENES if scene != MAIN for n in SEEDS_OF_SCENES]
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        calls = [loop.run_in_executor(pool, _run, *job, way) for job in jobs for way in WAYS]
        return list(await asyncio.gather(*calls))


def _run(scene: str, load: float, seed: int, way: str) -> Raw:
    fleet, differing = SCENES[scene]
    trace = make(seed=seed, fleet=fleet, load=load, seconds=SECONDS, **differing)
    fates, calls = WAYS[way](trace, seed)
    told = {"scene": scene, "load": load, "seed": seed, "way": way, "calls": dict(calls)}
    return told | _samples(fates, fleet)


WAYS: dict[str, Callable[[Trace, int], tuple[list[Fate], Mapping[str, int]]]] = {
    AWARE: lambda trace, seed: simulate(trace, seed=seed, is_aware=True),
    INDIFFERENT: lambda trace, seed: simulate(trace, seed=seed, is_aware=False),
    IDEAL: lambda trace, seed: (ideal(trace), Counter()),
}


def _samples(fates: Sequence[Fate], fleet: Sequence[Host]) -> Raw:
    slowest = min(host.tokens_per_second for host in fleet)
    return {
        "waited_ms": [round(fate.waited * 1000) for fate in fates],
        "took_ms": [round(fate.took * 1000) for fate in fates],
        "on_slowest": sum(fleet[fate.host].tokens_per_second == slowest for fate in fates),
    }


async def _real(*, quick: bool) -> Raw:
    """The same trace for each contender, before the same servers; one after the other."""
    seconds = REAL_SECONDS_QUICK if quick else REAL_SECONDS
    traces = {
        load: make(seed=REAL_SEED, fleet=FLEET, load=load, seconds=seconds * SPEEDUP).faster(
            SPEEDUP
        )
        for load in (LOADS[:1] if quick else LOADS)
    }
    fleet = traces[LOADS[0]].fleet
    async with emulator() as (aws_url, _):
        receives = (await probe.probe(aws_url, 20 if quick else 100))[probe.SENT_TO_RECEIVED]
    runs = [
        {"load": load, "way": IDEAL, "failed": 0, **_samples(ideal(trace), fleet)}
        for load, trace in traces.items()
    ]
    async with real.servers(fleet) as urls:
        for way, contender in _contenders(urls, fleet, quick=quick).items():
            runs += [run async for run in _play(way, contender, urls[0], traces)]
    return {"receive_ms": [round(ms, 2) for ms in receives], "runs": runs}


def _contenders(
    urls: Sequence[str], fleet: Sequence[Host], *, quick: bool
) -> dict[str, AbstractAsyncContextManager[str]]:
    found = {
        AWARE: real.inferline(urls, fleet),
        INDIFFERENT: real.inferline(urls, fleet, is_aware=False),
    }
    for strategy in ["least-busy"] if quick else real.STRATEGIES:
        found[f"LiteLLM, {strategy}"] = real.litellm(urls, fleet, strategy)
    return found


async def _play(
    way: str,
    contender: AbstractAsyncContextManager[str],
    servers_url: str,
    traces: Mapping[float, Trace],
) -> AsyncIterator[Raw]:
    fleet = traces[LOADS[0]].fleet
    warm = make(seed=0, fleet=FLEET, load=WARM_LOAD, seconds=WARM_SECONDS * SPEEDUP).faster(SPEEDUP)
    async with contender as url:
        await real.play(url, servers_url, warm)
        for load, trace in traces.items():
            played = await real.play(url, servers_url, trace)
            told = {"load": load, "way": way, "failed": played.failed}
            yield told | _samples(played.fates, fleet)


def tell(raw: Raw) -> list[Table | Chart]:
    runs = raw["simulated"]
    main = [run for run in runs if run["scene"] == MAIN]
    receive_ms = 1000 * dict(SEND_TO_RECEIVE)[0.99]
    told: list[Table | Chart] = [
        _table(
            f"Dispatch, simulated: {MAIN}; seconds",
            _pooled(main),
            receive_ms,
            f"InferLine's own gateway and providers in virtual time, SQS and DynamoDB as far away "
            f"as AWS; {round(SECONDS)} s for each of {len({r['seed'] for r in main})} seeds.",
        )
    ]
    if others := [run for run in runs if run["scene"] != MAIN]:
        told += [_scenes(others, receive_ms)]
    if found := raw.get("real"):
        receive_ms = percentile(found["receive_ms"], 0.99)
        pooled = {(run["load"], run["way"]): run for run in found["runs"]}
        told += [
            _table(
                f"Dispatch, real processes at {SPEEDUP:g} times the speed: {MAIN}; seconds",
                pooled,
                receive_ms,
                f"Waiting is from the client's sending to the backend's beginning, by one clock. "
                f"One receive of the emulator: p99 {receive_ms:.0f} ms.",
                limit_seconds=LIMIT_SECONDS / SPEEDUP,
            ),
            _chart(pooled),
        ]
    return told


Key = tuple[float, str]


def _pooled(runs: Sequence[Raw]) -> dict[Key, Raw]:
    """The samples of all seeds together, by load and way."""
    found: dict[Key, Raw] = {}
    for run in runs:
        one = found.setdefault(
            (run["load"], run["way"]),
            {"waited_ms": [], "took_ms": [], "on_slowest": 0, "calls": Counter(), "failed": 0},
        )
        one["waited_ms"] += run["waited_ms"]
        one["took_ms"] += run["took_ms"]
        one["on_slowest"] += run["on_slowest"]
        one["calls"].update(run["calls"])
    return found


def _table(
    title: str,
    pooled: Mapping[Key, Raw],
    receive_ms: float,
    note: str,
    limit_seconds: float = LIMIT_SECONDS,
) -> Table:
    head = ["load", "", "waiting p50", "p95", "p99", "p99 / ideal", "goal", "begun in time"]
    head += ["total p50", "p95", "p99", "/ indifferent", "on the slowest", "SQS calls", "requests"]
    rows = []
    for (load, way), run in pooled.items():
        best = percentile(pooled[load, IDEAL]["waited_ms"], 0.99)
        limit_ms = limit_seconds * 1000
        in_time = sum(ms <= limit_ms for ms in run["waited_ms"])
        waited = [_seconds(run["waited_ms"], share) for share in SHARES]
        took = [_seconds(run["took_ms"], share) for share in SHARES]
        p99 = percentile(run["waited_ms"], 0.99)
        count = len(run["waited_ms"])
        rows.append(
            [
                f"{load:g}",
                way,
                *waited,
                f"{p99 / best:.2f}" if best else "-",
                "" if way == IDEAL else _goal(p99, WAIT_TIMES * best + receive_ms),
                f"{100 * in_time / count:.1f} %",
                *took,
                _over_indifferent(pooled, load, run),
                f"{100 * run['on_slowest'] / count:.1f} %",
                f"{sum(run['calls'].values()) / count:.2f}" if run.get("calls") else "-",
                f"{count}" + (f", {run['failed']} failed" if run["failed"] else ""),
            ]
        )
    rows.sort(key=lambda row: float(row[0]))
    told = (
        f"Waiting: until a slot begins. Goal: p99 of at most {WAIT_TIMES} x ideal + one receive "
        f"({receive_ms:.0f} ms, p99). In time: within {limit_seconds:g} s. "
        f"Ideal: first come, first served at once, the fastest free slot first. "
        f"Goal for the total time's p99 at {LOADS[0]}: {TOTAL_TIMES} x that of indifferent pulling."
    )
    return Table(title, head, rows, f"{note}\n{told}")


def _seconds(samples_ms: Sequence[float], share: float) -> str:
    return f"{percentile(samples_ms, share) / 1000:.2f}"


def _goal(found_ms: float, goal_ms: float) -> str:
    return f"{'met' if found_ms <= goal_ms else 'missed'} ({goal_ms / 1000:.2f})"


def _over_indifferent(pooled: Mapping[Key, Raw], load: float, run: Raw) -> str:
    """The p99 of the total time over that of indifferent pulling."""
    other = pooled.get((load, INDIFFERENT))
    if other is None:
        return "-"
    return f"{percentile(run['took_ms'], 0.99) / percentile(other['took_ms'], 0.99):.2f}"


def _scenes(runs: Sequence[Raw], receive_ms: float) -> Table:
    """Other fleets and arrivals, in short."""
    head = ["fleet", "waiting p99: ideal", "InferLine", "indifferent", "goal", "total p99: ideal"]
    head += ["InferLine", "indifferent", "ratio", "SQS calls", "indifferent"]
    rows = []
    for scene in dict.fromkeys(run["scene"] for run in runs):
        pooled = _pooled([run for run in runs if run["scene"] == scene])
        ways = [pooled[LOADS[0], way] for way in (IDEAL, AWARE, INDIFFERENT)]
        best, ours = (percentile(way["waited_ms"], 0.99) for way in ways[:2])
        calls = [sum(way["calls"].values()) / len(way["took_ms"]) for way in ways[1:]]
        rows.append(
            [
                scene,
                *(_seconds(way["waited_ms"], 0.99) for way in ways),
                _goal(ours, WAIT_TIMES * best + receive_ms),
                *(_seconds(way["took_ms"], 0.99) for way in ways),
                _over_indifferent(pooled, LOADS[0], ways[1]),
                *(f"{each:.2f}" for each in calls),
            ]
        )
    note = f"At {LOADS[0]} of the capacity. Hosts have 4 slots where nothing else is said."
    return Table("Dispatch, simulated: other fleets and arrivals; seconds", head, rows, note)


def _chart(pooled: Mapping[Key, Raw]) -> Chart:
    """Of the real ones, which share of requests waited longer than a time."""
    load = LOADS[-1] if (LOADS[-1], AWARE) in pooled else LOADS[0]
    lines = {}
    for (at, way), run in pooled.items():
        if at == load:
            waits = sorted(run["waited_ms"])
            shares = [1 - number / len(waits) for number in range(len(waits))]
            lines[way] = [(ms / 1000, share) for ms, share in zip(waits, shares, strict=True)]
    title = f"Waiting at {load:g} of the capacity: share of requests that waited longer"
    return Chart(title, "seconds", "share", lines, y_log=True)
