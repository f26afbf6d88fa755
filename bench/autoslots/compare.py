"""
Automatic slots by the provider's tuner and by AIMD, each beside the best of the sweep.

    python -m bench.autoslots.compare
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import mean
from unittest.mock import patch

from bench.autoslots.aimd import Aimd
from bench.autoslots.autoslots import (
    FIXED_SECONDS,
    FIXED_SEEDS,
    FOUND_SECONDS,
    SEEDS,
    SEEDS_OF_STORIES,
)
from bench.autoslots.scenes import SCENES, STORIES, Run, run_knee, run_scene, run_story
from bench.autoslots.tables import SETTLED_AT, best, firsts, late, rate, spans, swept
from bench.report import Table, progress, show
from inferline_provider import provider

#: A story in which a knee moves: the tuner is slow to see that a backend became faster.
STORY = "the knee halves and doubles, collapse beyond"


def main() -> None:
    context = get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        rows = [row(pool, name) for name in SCENES]
        show([table([*rows, *story_rows(pool, STORY)])])


def run_aimd(name: str, seed: int, seconds: float) -> Run:
    """Run a scene in which AIMD adapts the slots."""
    with patch.object(provider, "Tuner", Aimd):
        return run_scene(name, seed, None, seconds)


def run_story_aimd(name: str, seed: int, seconds: float) -> Run:
    """Run a story in which AIMD adapts the slots."""
    with patch.object(provider, "Tuner", Aimd):
        return run_story(name, seed, None, seconds)


def row(pool: Executor, name: str) -> list[str]:
    """Run a scene in each way and return its row of the table."""
    progress(f"simulated: {name}")
    numbers = [(seed, slots) for slots in SCENES[name].fixed for seed in FIXED_SEEDS]
    fixed = [pool.submit(run_scene, name, *number, FIXED_SECONDS) for number in numbers]
    ways: Sequence[Callable[[int], Run]] = (
        partial(run_scene, name, slots=None, seconds=FOUND_SECONDS),
        partial(run_aimd, name, seconds=FOUND_SECONDS),
    )
    adapted = [[pool.submit(way, seed) for seed in SEEDS] for way in ways]
    sweep = [run.result() for run in fixed]
    done, _ = swept(sweep)[best(sweep)]
    cells = [_cell([run.result() for run in runs], done) for runs in adapted]
    return [name, *(text for cell in cells for text in cell)]


def story_rows(pool: Executor, name: str) -> list[list[str]]:
    """Run a story in both ways and return a row for the second half of each of its spans."""
    progress(f"simulated: {name}")
    story = STORIES[name]
    fixed = [
        pool.submit(run_knee, name, FIXED_SEEDS[0], slots, FIXED_SECONDS, knee)
        for knee in sorted(set(story.knees.values()))
        for slots in (knee, knee + 1)
    ]
    ways: Sequence[Callable[[int], Run]] = (
        partial(run_story, name, slots=None, seconds=story.seconds),
        partial(run_story_aimd, name, seconds=story.seconds),
    )
    adapted = [[pool.submit(way, seed) for seed in SEEDS_OF_STORIES] for way in ways]
    sweep = [run.result() for run in fixed]
    results = [[run.result() for run in runs] for runs in adapted]
    rows = []
    for span in spans(name, {"fixed": sweep}):
        cells = [_cell(runs, span.done, span.half, span.end) for runs in results]
        label = f"{name}: {span.knee} from {span.begin:g} s"
        rows.append([label, *(text for cell in cells for text in cell)])
    return rows


def table(rows: Sequence[Sequence[str]]) -> Table:
    """Return the rows with what heads them."""
    head = ["", "tuner", "p95, s", "AIMD", "p95, s"]
    return Table("Automatic slots by the tuner and by AIMD", head, rows)


def _cell(
    runs: Sequence[Run], done: float, begin: float = SETTLED_AT, end: float = FOUND_SECONDS
) -> tuple[str, str]:
    """Return the mean (and worst) throughput as a share of ``done``, and the first token's p95."""
    shares = [rate(run, begin, end) / done for run in runs]
    first = late(firsts(runs, begin, end))
    return f"{100 * mean(shares):.1f} % ({100 * min(shares):.1f} %)", f"{first:.2f}"


if __name__ == "__main__":
    main()
