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
from bench.autoslots.autoslots import FIXED_SECONDS, FIXED_SEEDS, FOUND_SECONDS, SEEDS
from bench.autoslots.scenes import SCENES, Run, run_scene
from bench.autoslots.tables import SETTLED_AT, best, firsts, late, rate, swept
from bench.report import Table, progress, show
from inferline_provider import provider


def main() -> None:
    context = get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        show([table([row(pool, name) for name in SCENES])])


def run_aimd(name: str, seed: int, seconds: float) -> Run:
    """Run a scene in which AIMD adapts the slots."""
    with patch.object(provider, "Tuner", Aimd):
        return run_scene(name, seed, None, seconds)


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


def table(rows: Sequence[Sequence[str]]) -> Table:
    """Return the rows with what heads them."""
    head = ["", "tuner", "p95, s", "AIMD", "p95, s"]
    return Table("Automatic slots by the tuner and by AIMD", head, rows)


def _cell(runs: Sequence[Run], done: float) -> tuple[str, str]:
    """Return the mean (and worst) throughput as a share of ``done``, and the first token's p95."""
    shares = [rate(run, SETTLED_AT) / done for run in runs]
    first = late(firsts(runs, SETTLED_AT))
    return f"{100 * mean(shares):.1f} % ({100 * min(shares):.1f} %)", f"{first:.2f}"


if __name__ == "__main__":
    main()
