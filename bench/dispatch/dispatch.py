"""Who waits for a slot, how long, and for which: InferLine beside LiteLLM and an ideal queue."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any

from bench.dispatch import real
from bench.dispatch.line import simulate
from bench.dispatch.tables import AWARE, IDEAL, INDIFFERENT, MAIN, SCENE_LOAD, pooled, samples, tell
from bench.dispatch.trace import Fate, Host, Trace, ideal, make
from bench.harness import probe
from bench.harness.distance import SEND_TO_RECEIVE
from bench.harness.loader import Loader
from bench.harness.stack import emulator
from bench.harness.stats import percentile
from bench.report import progress

__all__ = ["measure", "tell"]

FAST, MEDIUM, SLOW = Host(4, 100.0), Host(4, 50.0), Host(4, 25.0)
#: Eight hosts of three speeds.
FLEET = (FAST,) * 2 + (MEDIUM,) * 3 + (SLOW,) * 3
LOADS = (0.6, 0.8, 0.9)
#: Who waits no longer than this is served well, seconds.
LIMIT_SECONDS = 2.0

#: Other fleets, and how their arrivals differ; the easy cases and the hard ones.
SCENES: dict[str, tuple[Sequence[Host], dict[str, float]]] = {
    MAIN: (FLEET, {}),
    "3 fast, 3 medium, 2 slow": ((FAST,) * 3 + (MEDIUM,) * 3 + (SLOW,) * 2, {}),
    "1 fast of 16 slots, 3 medium, 4 slow of 2": (
        (Host(16, 100.0), *(MEDIUM,) * 3, *(Host(2, 25.0),) * 4),
        {},
    ),
    "1 fast, 7 slow": ((FAST,) + (SLOW,) * 7, {}),
    "8 alike": ((MEDIUM,) * 8, {}),
    "4 fast of 8 slots, 8 medium, 28 slow": (
        (Host(8, 100.0),) * 4 + (MEDIUM,) * 8 + (SLOW,) * 28,
        {},
    ),
    f"{MAIN}; bursts of 2 times the mean": (FLEET, {"swell": 2.0}),
    f"{MAIN}; no bursts": (FLEET, {"swell": 1.0}),
}
SECONDS = 600.0
SEEDS, SEEDS_OF_SCENES, SEEDS_QUICK = range(1, 9), range(1, 4), range(1, 3)

#: The real thing: so much faster than simulated, how long, and what comes before it counts.
SPEEDUP = 5.0
REAL_SECONDS, REAL_SECONDS_QUICK = 60.0, 20.0
REAL_SEED = 1
WARM_SECONDS, WARM_LOAD = 15.0, 0.5

Raw = dict[str, Any]


async def measure(load: Loader, *, quick: bool) -> Raw:
    """Simulate, then play; ``load`` is closed-loop and has no part in it."""
    simulated = await simulate_all(quick=quick)
    receive_ms, played = await play_all(quick=quick)
    return {
        "receive_ms": {"AWS": 1000 * SEND_TO_RECEIVE[0.99], "emulator": receive_ms},
        "limit_seconds": {"AWS": LIMIT_SECONDS, "emulator": LIMIT_SECONDS / SPEEDUP},
        "real_time": {
            "speedup": SPEEDUP,
            "seconds": REAL_SECONDS_QUICK if quick else REAL_SECONDS,
            "seed": REAL_SEED,
        },
        "simulated": simulated,
        "real": played,
    }


async def simulate_all(*, quick: bool) -> dict[str, Any]:
    """
    Return each trace on the line, indifferent and not, and on the ideal queue: by scene, load, way.
    """
    jobs = [(MAIN, load, SEEDS_QUICK if quick else SEEDS) for load in LOADS]
    if not quick:
        jobs += [(scene, SCENE_LOAD, SEEDS_OF_SCENES) for scene in SCENES if scene != MAIN]
    loop, results = asyncio.get_running_loop(), dict[str, Any]()
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for scene, load, seeds in jobs:
            progress(f"simulated: {scene}, {load:g}")
            for way in (IDEAL, AWARE, INDIFFERENT):
                runs = [loop.run_in_executor(pool, _run, scene, load, n, way) for n in seeds]
                ways = results.setdefault(scene, {}).setdefault(f"{load:g}", {})
                ways[way] = pooled(await asyncio.gather(*runs))
    return results


def _run(scene: str, load: float, seed: int, way: str) -> Raw:
    fleet, differing = SCENES[scene]
    trace = make(seed=seed, fleet=fleet, load=load, seconds=SECONDS, **differing)
    if way == IDEAL:
        return _raw(ideal(trace), fleet) | {"calls": {}}
    fates, calls = simulate(trace, seed=seed, is_aware=way == AWARE)
    return _raw(fates, fleet) | {"calls": dict(calls)}


def _raw(fates: Sequence[Fate], fleet: Sequence[Host], limit: float = LIMIT_SECONDS) -> Raw:
    slowest = min(host.tokens_per_second for host in fleet)
    times = samples((fate.waited for fate in fates), (fate.took for fate in fates), limit)
    on_slowest = sum(fleet[fate.host].tokens_per_second == slowest for fate in fates)
    return times | {"on_slowest": on_slowest}


async def play_all(*, quick: bool) -> tuple[float, dict[str, Any]]:
    """
    Return the same traces for each contender before the same servers, one after the other.

    What one receive of the emulator takes, p99, milliseconds; and what came of it, by load and way.
    """
    seconds = REAL_SECONDS_QUICK if quick else REAL_SECONDS
    loads = LOADS[:1] if quick else LOADS
    traces = {load: _quickened(REAL_SEED, load, seconds) for load in loads}
    fleet = traces[LOADS[0]].fleet
    async with emulator() as (aws_url, _):
        receives = (await probe.probe(aws_url, 20 if quick else 100))[probe.SENT_TO_RECEIVED]
    results: dict[str, Any] = {
        f"{load:g}": {IDEAL: _played(real.Played(ideal(trace), 0), fleet)}
        for load, trace in traces.items()
    }
    async with real.servers(fleet) as urls:
        for way, contender in _contenders(urls, fleet, quick=quick).items():
            async with contender as url:
                progress(f"real: {way}")
                await real.play(url, urls[0], _quickened(0, WARM_LOAD, WARM_SECONDS))
                for load, trace in traces.items():
                    played = await real.play(url, urls[0], trace)
                    results[f"{load:g}"][way] = _played(played, fleet)
    return percentile(receives, 0.99), results


def _quickened(seed: int, load: float, seconds: float) -> Trace:
    trace = make(seed=seed, fleet=FLEET, load=load, seconds=seconds * SPEEDUP)
    return trace.faster(SPEEDUP)


def _contenders(
    urls: Sequence[str], fleet: Sequence[Host], *, quick: bool
) -> Mapping[str, AbstractAsyncContextManager[str]]:
    contenders = {
        AWARE: real.inferline(urls, fleet),
        INDIFFERENT: real.inferline(urls, fleet, is_aware=False),
    }
    for strategy in ["least-busy"] if quick else real.STRATEGIES:
        contenders[f"LiteLLM, {strategy}"] = real.litellm(urls, fleet, strategy)
    return contenders


def _played(played: real.Played, fleet: Sequence[Host]) -> Raw:
    times = _raw(played.fates, fleet, LIMIT_SECONDS / SPEEDUP)
    return times | {"failed": played.failed, "calls": {}}
