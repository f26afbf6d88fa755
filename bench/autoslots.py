"""The slots that a provider finds, beside the best number that could be set."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from statistics import mean
from typing import Any

from bench import autoslots_real
from bench.autoslots_scenes import (
    BOUND,
    SCENES,
    STORIES,
    Run,
    run_knee,
    run_scene,
    run_story,
)
from bench.loader import Loader
from bench.report import Chart, Table
from bench.stats import percentile

SEEDS = (1, 2, 3, 4, 5)
FIXED_SEEDS = (1, 2)
#: How long slots that are set, and those that are found, are looked at, seconds.
FIXED_SECONDS = 180
FOUND_SECONDS = 900
QUICK_SECONDS = 600
#: What is left out at the beginning: of the former the filling, of the latter the search.
FILLED_AT = 60
SETTLED_AT = 300
#: As near to the best is what it is to come, for so many seconds together.
NEAR = 0.95
WINDOW_SECONDS = 60
#: Points of a chart are means of so many seconds.
POINT_SECONDS = 20


async def measure(load: Loader, *, quick: bool) -> dict[str, Any]:
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        loop = asyncio.get_running_loop()

        async def run(function: Any, *arguments: Any) -> Run:
            return await loop.run_in_executor(pool, function, *arguments)

        scenes, stories = await asyncio.gather(_scenes(run, quick), _stories(run, quick))
    real = await autoslots_real.measure(load, quick=quick)
    return {"scenes": scenes, "stories": stories, "real": real}


async def _scenes(run: Any, quick: bool) -> dict[str, dict[str, list[Run]]]:
    found: dict[str, dict[str, list[Run]]] = {}
    for name, scene in SCENES.items():
        fixed = [
            run(run_scene, name, seed, slots, FIXED_SECONDS)
            for slots in scene.fixed
            for seed in (FIXED_SEEDS[:1] if quick else FIXED_SEEDS)
        ]
        seeds = SEEDS[:1] if quick else SEEDS
        seconds = QUICK_SECONDS if quick else FOUND_SECONDS
        free = [run(run_scene, name, seed, None, seconds) for seed in seeds]
        runs = await asyncio.gather(*fixed, *free)
        found[name] = {"fixed": runs[: len(fixed)], "found": runs[len(fixed) :]}
    return found


async def _stories(run: Any, quick: bool) -> dict[str, dict[str, list[Run]]]:
    found: dict[str, dict[str, list[Run]]] = {}
    for name, story in STORIES.items():
        knees = sorted({knee for knee in story.knees.values() if knee})
        fixed = [
            run(run_knee, name, 1, slots, FIXED_SECONDS, knee)
            for knee in knees
            for slots in (knee, knee + 1)
        ]
        seeds = SEEDS[:1] if quick else SEEDS[:3]
        free = [run(run_story, name, seed, None, story.seconds) for seed in seeds]
        runs = await asyncio.gather(*fixed, *free)
        found[name] = {"fixed": runs[: len(fixed)], "found": runs[len(fixed) :]}
    return found


def tell(raw: dict[str, Any]) -> list[Table | Chart]:
    """What was found, from the raw data alone."""
    told: list[Table | Chart] = [_scene_table(raw["scenes"]), _story_table(raw["stories"])]
    told += [autoslots_real.tell(raw["real"], NEAR)] if raw["real"] else []
    shares = {
        name: _points(runs["found"][0]["made"], best(runs["fixed"])[1])
        for name, runs in raw["scenes"].items()
    }
    told.append(
        Chart("From one slot on: throughput, 1 is the best that can be set", "minutes", "", shares)
    )
    for what, runs in (("scenes", raw["scenes"]), ("stories", raw["stories"])):
        limits = {name: _steps(found["found"][0]["limits"]) for name, found in runs.items()}
        told.append(Chart(f"Slots over time: {what}", "minutes", "slots", limits, y_log=True))
    return told


def rate(run: Run, begin: float, end: float | None = None) -> float:
    """Tokens a second."""
    return mean(run["made"][int(begin) : None if end is None else int(end)])


def late(run: Run, begin: float, end: float = float("inf")) -> float:
    """The time to the first token that 95 of 100 keep."""
    found = [took for at, took in run["firsts"] if begin <= at < end]
    return percentile(found, 0.95) if found else 0.0


def best(fixed: Sequence[Run]) -> tuple[int, float, float]:
    """The number that does most within the bound, what it does, and its first token's p95."""
    found = []
    for slots in sorted({run["slots"] for run in fixed}):
        runs = [run for run in fixed if run["slots"] == slots]
        first = mean(late(run, FILLED_AT) for run in runs)
        if first <= BOUND:
            found.append((mean(rate(run, FILLED_AT) for run in runs), slots, first))
    done, slots, first = max(found)
    return slots, done, first


def reached(run: Run, least: float, begin: int = 0, end: int | None = None) -> int | None:
    """How long it took until as much was done as ``least`` for a minute, seconds."""
    end = len(run["made"]) if end is None else end
    for at in range(begin, end - WINDOW_SECONDS + 1):
        if rate(run, at, at + WINDOW_SECONDS) >= least:
            return at - begin
    return None


def slots_of(run: Run, begin: float, end: float) -> float:
    """How many slots there were, on average."""
    ends = [*(at for at, _ in run["limits"][1:]), end]
    spans = [
        (max(0.0, min(end, until) - max(begin, at)), limit)
        for (at, limit), until in zip(run["limits"], ends, strict=True)
    ]
    return sum(span * limit for span, limit in spans) / (end - begin)


def _scene_table(scenes: dict[str, dict[str, list[Run]]]) -> Table:
    rows = []
    for name, runs in scenes.items():
        slots, done, first = best(runs["fixed"])
        found = runs["found"]
        shares = [rate(run, SETTLED_AT) / done for run in found]
        firsts = [late(run, SETTLED_AT) for run in found]
        times = [reached(run, NEAR * done) for run in found]
        rows.append(
            [
                name,
                f"{slots}",
                f"{first:.1f}",
                f"{mean(slots_of(run, SETTLED_AT, len(run['made'])) for run in found):.0f}",
                f"{100 * mean(shares):.1f} % ({100 * min(shares):.1f} %)",
                f"{mean(firsts):.1f} ({max(firsts):.1f})",
                _times(times),
                f"{100 * mean(rate(run, 0) / done for run in found):.0f} %",
            ]
        )
    head = [
        "",
        "best set",
        "its p95, s",
        "found",
        "throughput (worst)",
        "p95, s (worst)",
        "near after, s",
        "all the time",
    ]
    note = (
        "Slots that a provider finds from 1 on, beside the best of those that were set; full load. "
        f"The p95 of first tokens,\nat the backend, is to stay below {BOUND:g} s. Means and the "
        f"worst of {len(found)} runs from minute 5 on. Near: when the\nfirst minute within 5 % of "
        "the best began. All the time: the search included. Virtual time; the provider is\n"
        "InferLine's own code. A task takes some 6 s, with the knee at 200 15 s."
    )
    return Table("Automatic slots beside the best number that can be set", head, rows, note)


def _story_table(stories: dict[str, dict[str, list[Run]]]) -> Table:
    rows = []
    for name, runs in stories.items():
        story = STORIES[name]
        spans = pairwise([*story.knees.items(), (story.seconds, 0)])
        for (begin, knee), (end, _) in spans:
            if not knee:
                continue
            fixed = [run for run in runs["fixed"] if run["slots"] in (knee, knee + 1)]
            done = max(rate(run, FILLED_AT) for run in fixed)
            found, half = runs["found"], (begin + end) / 2
            times = [reached(run, NEAR * done, int(begin), int(end)) for run in found]
            shares = [rate(run, half, end) / done for run in found]
            rows.append(
                [
                    name if begin == 0 else "",
                    f"{begin:g} s: {knee}",
                    _times(times),
                    f"{100 * mean(shares):.1f} % ({100 * min(shares):.1f} %)",
                    f"{mean(slots_of(run, half, end) for run in found):.0f}",
                    f"{mean(late(run, half, end) for run in found):.1f}",
                ]
            )
    head = ["", "from, knee", "near after, s", "second half (worst)", "slots", "p95, s"]
    note = "The same, while the backend or the load changes; the best is set for each knee."
    return Table("Automatic slots when something changes", head, rows, note)


def _times(times: Sequence[int | None]) -> str:
    known = sorted(time for time in times if time is not None)
    if len(known) < len(times):
        return f"{known[0] if known else '-'} to never"
    return f"{known[0]} to {known[-1]}" if len(known) > 1 else f"{known[0]}"


def _points(made: Sequence[int], unit: float) -> list[tuple[float, float]]:
    return [
        (at / 60, round(mean(made[at : at + POINT_SECONDS]) / unit, 3))
        for at in range(0, len(made), POINT_SECONDS)
    ]


def _steps(limits: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    points = [(limits[0][0] / 60, float(limits[0][1]))]
    for (_, before), (at, after) in pairwise(limits):
        points += [(round(at / 60, 3), float(before)), (round(at / 60, 3), float(after))]
    return points
