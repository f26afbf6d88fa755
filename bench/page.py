"""The page `docs/performance.md`, made of the published raw data and of nothing else."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path

from bench.harness.processes import ROOT
from bench.parts import PARTS
from bench.report import Chart, Kept, Table, lines, tell

PUBLISHED = Path(__file__).parent / "published"
PAGE = ROOT / "docs" / "performance.md"
PICTURES = ROOT / "docs" / "pictures"
#: What of a machine's description is a part's own and not told once for all.
OWN = ("time", "load before", "commit", "quick", "seconds")
LINE_CHARS = 128


def read(folder: Path = PUBLISHED) -> dict[str, Kept]:
    """Return what is published, by part, in the order of the parts."""
    paths = {name: folder / f"{name}.json" for name in PARTS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def charts(published: Mapping[str, Kept]) -> dict[Path, Chart]:
    """Return all pictures of the page, by the file that each goes to."""
    return {
        picture(name, number): chart
        for name, kept in published.items()
        for number, chart in enumerate(each for each in tell(kept) if isinstance(each, Chart))
    }


def picture(part: str, number: int) -> Path:
    """Return where a part's chart is drawn to."""
    return PICTURES / f"performance-{part.replace('_', '-')}-{number + 1}.svg"


def page(published: Mapping[str, Kept], folder: Path = PUBLISHED) -> str:
    """
    Return the text of the page.

    What people have written stands beside the data: `head.md` before all, and what there is to say
    of a part, as why a goal was not met and what would meet it, in `<part>.md` after its tables.
    """
    pieces = [(folder / "head.md").read_text().strip(), _machine(published)]
    for name, kept in published.items():
        pieces += [f"## {PARTS[name].title}", _run(name, kept["machine"])]
        number = 0
        for each in tell(kept):
            if isinstance(each, Table):
                pieces += [f"**{each.title}**", "\n".join(lines(each))]
                pieces += [textwrap.fill(each.note, LINE_CHARS)] if each.note else []
            else:
                path = picture(name, number).relative_to(PAGE.parent)
                pieces.append(f"![{each.title}]({path})")
                number += 1
        remarks = folder / f"{name}.md"
        pieces += [remarks.read_text().strip()] if remarks.exists() else []
    missing = [PARTS[name].title for name in PARTS if name not in published]
    pieces += [f"Not measured yet: {', '.join(missing)}."] if missing else []
    return "\n\n".join(pieces) + "\n"


def _machine(published: Mapping[str, Kept]) -> str:
    """Return the machine and the software, once if all parts have met the same."""
    machines: dict[str, list[str]] = {}
    for name, kept in published.items():
        same = {key: value for key, value in kept["machine"].items() if key not in OWN}
        machines.setdefault("; ".join(f"{key}: {value}" for key, value in same.items()), []).append(
            PARTS[name].title
        )
    if len(machines) == 1:
        return "Machine and versions:\n\n" + "\n".join(
            f"- {one}" for one in next(iter(machines)).split("; ")
        )
    items = [f"- {', '.join(titles)}: {about}" for about, titles in machines.items()]
    return "Machines and versions:\n\n" + "\n".join(items)


def _run(name: str, machine: Mapping[str, str]) -> str:
    """Return how a part was run."""
    quick = machine.get("quick") == "True"
    command = f'make bench ARGS="{name}{" --quick" if quick else ""}"'
    minutes = float(machine.get("seconds", 0)) / 60
    about = (
        f"`{command}`, {machine['time'][:10]}, commit {machine['commit']}, {minutes:.0f} minutes; "
        f"load of the machine before: {machine['load before']}."
    )
    warning = "**A quick look with few samples, not a result.** " if quick else ""
    return textwrap.fill(warning + about, LINE_CHARS)
