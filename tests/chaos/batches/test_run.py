"""The short form of the random run of batches; `make chaos` is the long one."""

from __future__ import annotations

import os

import pytest

from tests.chaos.batches.run import run


@pytest.mark.timeout(900)
async def test_each_line_stands_once_in_one_file_while_processes_die() -> None:
    seed = int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(3)))

    report = await run(seed, lines=400, requests=40, refusing_seconds=3)

    text = "\n".join(report.lines())
    print(text)
    assert report.is_good, text
