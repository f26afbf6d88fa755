"""The short form of the random run; `make chaos` is the long one."""

from __future__ import annotations

import os

import pytest

from tests.chaos.pieces import need_faketime
from tests.chaos.run import run


@pytest.mark.timeout(900)
async def test_nothing_is_lost_mixed_or_told_twice_while_processes_die() -> None:
    need_faketime()
    seed = int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(3)))

    report = await run(seed, requests=250, at_once=12)

    text = "\n".join(report.lines())
    print(text)
    assert report.is_good, text
