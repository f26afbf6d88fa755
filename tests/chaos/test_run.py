"""The short form of the random run; `make chaos` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys

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


def test_the_command_collects_the_call_sites() -> None:
    code = (
        "from tests.chaos.__main__ import try_call_sites\n"
        "raise SystemExit(try_call_sites('--collect-only', '-q'))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
