"""The command `python -m bench`, which `make bench` runs."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
import time

from bench import publish, report
from bench.harness import machine, sampled
from bench.harness.loader import loader
from bench.harness.processes import PROFILED, ROOT, BenchError
from bench.parts import PARTS

#: What can be profiled.
PROCESSES = ("gateway", "provider", "emulator", "backend")
#: Measures nothing: makes the page of what was measured.
PUBLISH = "publish"


def main() -> int:
    if sys.argv[1:2] == [PUBLISH]:
        return publish.main(sys.argv[2:])
    options = _options()
    if options.profile:
        PROFILED[options.profile] = []
    asked = {options.parts} if isinstance(options.parts, str) else set(options.parts)
    chosen = [name for name in PARTS if asked & {name, "all"}]
    report.make_results()
    about = machine.describe()
    for what, value in about.items():
        report.note(f"{what:12} {value}")
    _announce(chosen, quick=options.quick)
    failed = [name for name in chosen if not _run(name, about, quick=options.quick)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    lines = [
        f"  {name:11} {part.what}; {_minutes(part.seconds)}, quick {_minutes(part.quick_seconds)}"
        for name, part in PARTS.items()
    ]
    lines += ["", f"  {PUBLISH} [FILE...]   make docs/performance.md of the newest raw data"]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure InferLine on this machine, beside LiteLLM's proxy.",
        epilog="\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [*PARTS, "all"]
    parser.add_argument("parts", nargs="*", choices=names, default="all", metavar="PART")
    parser.add_argument("--quick", action="store_true", help="fewer samples: a look, no result")
    parser.add_argument(
        "--profile",
        choices=PROCESSES,
        help="show where this process spends its CPU time; figures are worse meanwhile, no results",
    )
    return parser.parse_args()


def _announce(chosen: list[str], *, quick: bool) -> None:
    """Say beforehand how long it will take."""
    times = {name: PARTS[name].quick_seconds if quick else PARTS[name].seconds for name in chosen}
    parts = ", ".join(f"{name} {_minutes(seconds)}" for name, seconds in times.items())
    report.note(f"\nThis will take about {_minutes(sum(times.values()))}: {parts}.")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _run(name: str, about: dict[str, str], *, quick: bool) -> bool:
    """Measure one part and keep what it found; False if it could not be measured."""
    begun = time.monotonic()
    report.progress(f"{name}: {PARTS[name].what}")
    try:
        raw = asyncio.run(_measure(name, quick=quick))
    except BenchError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    seconds = time.monotonic() - begun
    about = {**about, "quick": str(quick), "seconds": f"{seconds:.0f}"}
    path = report.keep(name, about, raw, prefix="profiled-" if PROFILED else "")
    # From the file, so that what is printed is what the page will have.
    report.show(report.tell(json.loads(path.read_text())))
    for process, profiles in PROFILED.items():
        report.show([sampled.table(process, one) for one in map(sampled.read, profiles) if one])
        profiles.clear()
    report.note(f"\n{name} took {_minutes(seconds)}; raw data: {path.relative_to(ROOT)}")
    return True


async def _measure(name: str, *, quick: bool) -> object:
    part = importlib.import_module(PARTS[name].module)
    async with loader() as load:
        return await part.measure(load, quick=quick)


if __name__ == "__main__":
    sys.exit(main())
