"""
Publishes what was measured: `python -m bench publish [FILE...]`.

Takes the newest raw file of each part, or those that are named, keeps them rounded in
`bench/published`, and makes of all that is there `docs/performance.md` and its pictures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import page
from bench.harness.machine import LITELLM_PYTHON
from bench.harness.processes import ROOT
from bench.parts import PARTS
from bench.report import RESULTS

#: Digits that a figure keeps: more than any of them is worth.
DIGITS = 4


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench publish", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="raw data; else each part's newest")
    options = parser.parse_args(arguments)
    page.PUBLISHED.mkdir(exist_ok=True)
    for path in options.files or newest(RESULTS):
        kept = json.loads(path.read_text())
        to = page.PUBLISHED / f"{kept['part']}.json"
        to.write_text(json.dumps(rounded(kept), separators=(",", ":")) + "\n")
        print(f"{path} -> {to.relative_to(ROOT)}, {to.stat().st_size / 1024:.0f} KiB")
    published = page.read()
    page.PAGE.write_text(page.page(published))
    print(f"wrote {page.PAGE.relative_to(ROOT)}")
    return draw(page.charts(published))


def newest(folder: Path) -> Iterable[Path]:
    """Return the latest raw file of each part; their names end with the time."""
    for name in PARTS:
        if files := sorted(folder.glob(f"{name}-2*.json")):
            yield files[-1]


def rounded(value: Any) -> Any:
    """Return the same with figures of few digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def draw(charts: dict[Path, Any]) -> int:
    """Draw them anew, in the environment that has matplotlib; where there is none, say so."""
    asked = [{"path": str(path), "chart": asdict(chart)} for path, chart in charts.items()]
    if not LITELLM_PYTHON.exists():
        print("no pictures: matplotlib comes with `make bench`", file=sys.stderr)
        return 0
    command = [str(LITELLM_PYTHON), "-m", "bench.draw"]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(asked), text=True)
    if done.returncode:
        print("no pictures: matplotlib failed", file=sys.stderr)
        return 0
    for old in set(page.PICTURES.glob("performance-*.svg")) - set(charts):
        old.unlink()
    print(f"drew {len(charts)} pictures to {page.PICTURES.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
