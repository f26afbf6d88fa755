"""
The slots that a provider finds by itself, beside the best number that could be set.

The backend is scripted, so that its knee is known; the best is not taken from it but found by a
sweep of fixed numbers, each of which runs on the same line.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from bench.autoslots import real
from bench.autoslots.scenes import (
    SCENES,
    SCENES_QUICK,
    STORIES,
    STORIES_QUICK,
    Run,
    run_knee,
    run_scene,
    run_story,
)
from bench.autoslots.tables import Found, tell
from bench.harness.loader import Loader
from bench.report import progress

__all__ = ["measure", "tell"]

SEEDS, SEEDS_OF_STORIES, FIXED_SEEDS = (1, 2, 3, 4, 5), (1, 2, 3), (1, 2)
SEEDS_QUICK = (1,)
#: How long slots that are set, and those that are found, are looked at, seconds.
FIXED_SECONDS = 180.0
FOUND_SECONDS, FOUND_SECONDS_QUICK = 900.0, 600.0

#: Has a function of `autoslots_scenes` run in another process.
Start = Callable[..., Awaitable[Run]]


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    """Simulate, as much at once as there are cores; then one scene for real."""
    loop, cores = asyncio.get_running_loop(), len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:

        async def start(function: Any, *arguments: Any) -> Run:
            return await loop.run_in_executor(pool, function, *arguments)

        scenes = {
            name: await _scene(start, name, quick=quick)
            for name in (SCENES_QUICK if quick else SCENES)
        }
        stories = {
            name: await _story(start, name, quick=quick)
            for name in (STORIES_QUICK if quick else STORIES)
        }
    progress("real")
    return {"scenes": scenes, "stories": stories, "real": await real.measure(load, quick=quick)}


async def _scene(start: Start, name: str, *, quick: bool) -> Found:
    progress(f"simulated: {name}")
    seconds = FOUND_SECONDS_QUICK if quick else FOUND_SECONDS
    return await _beside(
        [start(run_scene, name, seed, None, seconds) for seed in (SEEDS_QUICK if quick else SEEDS)],
        [
            start(run_scene, name, seed, slots, FIXED_SECONDS)
            for slots in SCENES[name].fixed
            for seed in (SEEDS_QUICK if quick else FIXED_SEEDS)
        ],
    )


async def _story(start: Start, name: str, *, quick: bool) -> Found:
    progress(f"simulated: {name}")
    story = STORIES[name]
    return await _beside(
        [
            start(run_story, name, seed, None, story.seconds)
            for seed in (SEEDS_QUICK if quick else SEEDS_OF_STORIES)
        ],
        [
            start(run_knee, name, SEEDS_QUICK[0], slots, FIXED_SECONDS, knee)
            for knee in sorted({knee for knee in story.knees.values() if knee})
            for slots in (knee, knee + 1)
        ],
    )


async def _beside(runs: Sequence[Awaitable[Run]], fixed: Sequence[Awaitable[Run]]) -> Found:
    runs = await asyncio.gather(*runs, *fixed)
    return {"found": runs[: len(runs)], "fixed": runs[len(runs) :]}
