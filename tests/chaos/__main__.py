"""
The chaos run as a command: `make chaos`, and with ARGS="--requests 10000" the long form.

After it every call to AWS fails in each way, one by one: of that `make test` takes some.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

import pytest

import tests.conftest  # noqa: F401  # nobody's own settings or keys get in
from tests.chaos.pieces import faketime
from tests.chaos.run import run


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
    print("\n".join(report.lines()))
    os.environ["CHAOS_EVERY_SITE"] = "1"
    calls = pytest.main([str(Path(__file__).with_name("test_call_sites.py"))])
    return 0 if report.is_good and calls == pytest.ExitCode.OK else 1


if __name__ == "__main__":
    sys.exit(main())
