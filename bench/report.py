"""Prints tables, and keeps what they were made from."""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.parts import PARTS

RESULTS = Path(__file__).parent / "results"
#: Notes are wrapped to this in a terminal.
LINE_CHARS = 110


@dataclass(frozen=True, slots=True)
class Table:
    """Table of a part's results, made of its raw data alone."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    #: What one has to know to read it: what ran, what is in milliseconds, whose CPU it is.
    note: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Some of it as a picture: a line for each name, of points (x, y)."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    x_log: bool = False
    y_log: bool = False


@dataclass(frozen=True, slots=True)
class Goal:
    """Goal, and whether it was met."""

    what: str
    wanted: str
    result: str
    is_met: bool


def goals(part: str, items: Sequence[Goal]) -> Table:
    """Return the goals of a part as a table; what was not met shows as such."""
    rows = [[one.what, one.wanted, one.result, met(one.is_met)] for one in items]
    return Table(f"{part}: goals", ["what", "goal", "found", ""], rows)


def met(is_met: bool) -> str:
    """Return how a goal's outcome is told."""
    return "met" if is_met else "NOT MET"


def show(items: Sequence[Table | Chart]) -> None:
    """Print the tables; pictures are for pages."""
    for one in items:
        if isinstance(one, Table):
            print("", f"**{one.title}**", "", *lines(one), sep="\n", flush=True)
            if one.note:
                print("", textwrap.fill(one.note, LINE_CHARS), sep="\n", flush=True)


def lines(table: Table) -> list[str]:
    """Return the lines of a table: Markdown that also reads well in a terminal."""
    head, rows = table.head, table.rows
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [line(head), rule, *map(line, rows)]


def note(text: str) -> None:
    """Print a sentence."""
    print(text, flush=True)


def progress(text: str) -> None:
    """Tell who waits what goes on; no part of what was found."""
    print(f"  {text}", file=sys.stderr, flush=True)


#: What is kept of a part that was measured: its name as ``part``, ``machine``, and its ``data``.
Kept = dict[str, Any]


def tell(kept: Kept) -> list[Table | Chart]:
    """Return the tables and charts of what was kept of a part."""
    part = importlib.import_module(PARTS[kept["part"]].module)
    tables: list[Table | Chart] = part.tell(kept["data"])
    return tables


def keep(part: str, machine: Mapping[str, str], data: Any, *, prefix: str = "") -> Path:
    """Write a part's raw data."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    path = RESULTS / f"{prefix}{part}-{stamp}.json"
    path.write_text(json.dumps({"part": part, "machine": machine, "data": data}))
    return path


def make_results() -> None:
    """Make the folder of the raw data, which git does not see."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / ".gitignore").write_text("*\n")
