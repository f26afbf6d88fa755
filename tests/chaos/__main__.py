"""
The chaos run as a command: `make chaos`, and with ARGS="--requests 10000" the long form.

After it every call to AWS fails in each way, one by one: of that `make test` takes some.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from pathlib import Path

import tests.conftest  # noqa: F401  # nobody's own settings or keys get in
from tests.chaos.pieces import faketime
from tests.chaos.run import run

CALL_SITES = Path(__file__).with_name("test_call_sites.py")


def main() -> int:
    """Run, print the report, and say by the exit code whether all was right."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--at-once", type=int, default=16, help="clients at a time")
    parser.add_argument("--logs", type=Path, help="a folder for the logs of all processes")
    flags = parser.parse_args()
    seed = int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(3)))
    print(f"CHAOS_SEED={seed}", flush=True)
    if faketime() is None:
        print("All clocks are right: there is no libfaketime (Debian's `faketime`).", flush=True)
    report = asyncio.run(run(seed, flags.requests, flags.at_once, flags.logs))
    print("\n".join(report.lines()), flush=True)
    failed = try_call_sites()
    return 0 if report.is_good and not failed else 1


def try_call_sites(*options: str) -> int:
    """
    Fail every call to AWS in each way, and return pytest's exit code.

    In a process of its own: pytest has to load the modules that this one has loaded already.
    """
    command = [sys.executable, "-m", "pytest", str(CALL_SITES), *options]
    return subprocess.run(command, env=os.environ | {"CHAOS_EVERY_SITE": "1"}).returncode


if __name__ == "__main__":
    sys.exit(main())
