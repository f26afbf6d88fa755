"""The command `python -m bench`, which `make bench` runs."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import subprocess
import sys
import time

from bench import machine, report
from bench.loader import loader
from bench.processes import ROOT, BenchError, python

#: In the order in which `all` runs them, with what each tells.
PARTS = {
    "latency": "what InferLine and LiteLLM add to the first token and to the whole answer",
    "gateway": "answers a second, and CPU time of a router for each",
    "refill": "how long a free slot waits for its next task",
    "cancel": "how long a cancelled request still holds its slot",
    "calls": "calls to AWS for each request, and what a million cost",
    "cost": "the stack on AWS idle for a month, and for a million requests of 20 s",
    "cold_start": "time and memory of each Lambda function's start",
    "memory": "resident memory of each open stream",
    "growth": "what the registry and the polls cost with 100, 1,000 and 5,000 providers",
    "overload": "the share answered in time at 1.2 times the capacity, beside the best possible",
}
#: A program of its own, with its own table.
AWS_CLIENT = "aws-client"


def main() -> int:
    names = [*PARTS, AWS_CLIENT, "all"]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure InferLine on this machine, beside LiteLLM's proxy.",
        epilog="\n".join(f"  {name:11} {what}" for name, what in PARTS.items())
        + f"\n  {AWS_CLIENT:11} CPU time of a call to AWS, by client",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", choices=names, default="all", metavar="PART")
    parser.add_argument("--quick", action="store_true", help="fewer samples: a look, no result")
    options = parser.parse_args()
    asked = {options.parts} if isinstance(options.parts, str) else set(options.parts)
    chosen = [name for name in names[:-1] if asked & {name, "all"}]
    about = machine.describe()
    for what, value in about.items():
        report.note(f"{what:12} {value}")
    failed = [name for name in chosen if not _run(name, about, quick=options.quick)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, about: dict[str, str], *, quick: bool) -> bool:
    """Measure one part and keep what it found; False if it could not be measured."""
    if name == AWS_CLIENT:
        return _run_aws_client(quick=quick)
    begun = time.monotonic()
    try:
        found = asyncio.run(_measure(name, quick=quick))
    except BenchError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    if tell := getattr(importlib.import_module(f"bench.{name}"), "tell", None):
        report.show(tell(found))
    path = report.keep(name, {**about, "quick": str(quick)}, found)
    where = path.relative_to(ROOT)
    report.note(f"\n{name} took {time.monotonic() - begun:.0f} s; raw data: {where}")
    return True


async def _measure(name: str, *, quick: bool) -> object:
    part = importlib.import_module(f"bench.{name}")
    async with loader() as load:
        return await part.measure(load, quick=quick)


def _run_aws_client(*, quick: bool) -> bool:
    if importlib.util.find_spec("bench.aws_client") is None:
        return True
    command = python("bench.aws_client", *(["--calls", "300"] if quick else []))
    return subprocess.run(command, cwd=ROOT).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
