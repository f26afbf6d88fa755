"""What batches cost the requests beside them, and what a batch costs."""

from __future__ import annotations

import asyncio
from typing import Any

from bench.batches import real
from bench.batches.arms import ARMS
from bench.batches.line import Measured, simulate
from bench.batches.real_tables import real as tell_real
from bench.batches.tables import beside_requests, counted
from bench.batches.trace import make
from bench.dispatch.tables import pooled
from bench.harness import machine
from bench.harness.loader import Loader
from bench.report import Chart, Table, progress

#: The share of the slots that requests keep busy, and how many times as many come in bursts.
SCENES: dict[str, tuple[float, float]] = {
    "0.3": (0.3, 1.0),
    "0.5": (0.5, 1.0),
    "0.5, bursts": (0.5, 2.0),
    "0.7": (0.7, 1.0),
}
SECONDS, SECONDS_QUICK = 300.0, 100.0
SEEDS, SEEDS_QUICK = (1, 2, 3), (1,)


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    """Simulate, then run real batches; ``load`` has no part in it."""
    scenes = await simulate_all(quick=quick)
    return {"scenes": scenes, **await real.measure(quick=quick)}


async def simulate_all(*, quick: bool) -> dict[str, Any]:
    """Return every arm on the same traces, by scene and arm."""
    loop, results = asyncio.get_running_loop(), dict[str, dict[str, Any]]()
    seconds, seeds = (SECONDS_QUICK, SEEDS_QUICK) if quick else (SECONDS, SEEDS)
    with machine.pool() as pool:
        jobs = {
            (scene, arm): [
                loop.run_in_executor(pool, run, scene, arm, seed, seconds) for seed in seeds
            ]
            for scene in SCENES
            for arm in ARMS
        }
        for (scene, arm), runs in jobs.items():
            results.setdefault(scene, {})[arm] = pooled(await asyncio.gather(*runs))
            progress(f"simulated: {scene}, {arm}")
    return results


def run(scene: str, arm: str, seed: int, seconds: float) -> dict[str, Any]:
    """Return how a scene goes on one of the arms."""
    load, swell = SCENES[scene]
    trace = make(seed=seed, load=load, seconds=seconds, swell=swell)
    with ARMS[arm]() as with_batch:
        return _raw(simulate(trace, seed=seed, with_batch=with_batch))


def _raw(measured: Measured) -> dict[str, Any]:
    """Return what is kept of it."""
    return {
        "first_ms": counted(measured.firsts),
        "between_ms": counted(measured.betweens),
        "answered": measured.answered,
        "line_tokens": measured.line_tokens,
        "line_tokens_made": measured.line_tokens_made,
        "prompt_tokens": measured.prompt_tokens,
        "prompt_tokens_again": measured.prompt_tokens_again,
        "resumed": measured.resumed,
        "seconds": measured.seconds,
    }


def tell(raw: dict[str, Any]) -> list[Table | Chart]:
    return [*beside_requests(raw), *tell_real(raw)]
