"""
The chaos run as a command: `make chaos`, and with ARGS="--requests 10000" the long form.

After it batches run, of 10,000 lines or as many as `--lines` says, while S3 refuses for a minute;
then every call to AWS fails in each way, one by one: of that `make test` takes some.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from pathlib import Path

import tests.conftest  # noqa: F401  # nobody's own settings or keys get in
from tests.chaos.batches.run import BatchReport
from tests.chaos.batches.run import run as run_batches
from tests.chaos.pieces import faketime
from tests.chaos.run import run

CALL_SITES = Path(__file__).with_name("test_call_sites.py")

#: How long S3 refuses every call while batches run, and lines for each request beside them.
REFUSING_SECONDS = 60.0
LINES_A_REQUEST = 25


def main() -> int:
    """Run, print the report, and say by the exit code whether all was right."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--at-once", type=int, default=16, help="clients at a time")
    parser.add_argument("--lines", type=int, default=10_000, help="of the batches")
    parser.add_argument("--logs", type=Path, help="a folder for the logs of all processes")
    flags = parser.parse_args()
    seed = int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(3)))
    print(f"CHAOS_SEED={seed}", flush=True)
    if faketime() is None:
        print("All clocks are right: there is no libfaketime (Debian's `faketime`).", flush=True)
    report = asyncio.run(run(seed, flags.requests, flags.at_once, flags.logs))
    print("\n".join(report.lines()), flush=True)
    batches = asyncio.run(_batches(seed, flags.lines, flags.logs))
    failed = try_call_sites()
    return 0 if report.is_good and batches.is_good and not failed else 1


async def _batches(seed: int, lines: int, logs: Path | None) -> BatchReport:
    report = await run_batches(
        seed,
        lines=lines,
        requests=lines // LINES_A_REQUEST,
        refusing_seconds=REFUSING_SECONDS,
        logs=None if logs is None else logs / "batches",
    )
    print("\n".join(report.lines()), flush=True)
    return report


def try_call_sites(*options: str) -> int:
    """
    Fail every call to AWS in each way, and return pytest's exit code.

    In a process of its own: pytest has to load the modules that this one has loaded already.
    """
    command = [sys.executable, "-m", "pytest", str(CALL_SITES), *options]
    return subprocess.run(command, env=os.environ | {"CHAOS_EVERY_SITE": "1"}).returncode


if __name__ == "__main__":
    sys.exit(main())
