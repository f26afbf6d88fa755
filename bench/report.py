"""Prints tables, and keeps what they were made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Table:
    """What a part found, for people: made of its raw data and nothing else."""

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


def show(told: Sequence[Table | Chart]) -> None:
    """Print the tables; pictures are for pages."""
    for one in told:
        if isinstance(one, Table):
            table(one.title, one.head, one.rows)
            if one.note:
                note(one.note)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their title and head: Markdown that also reads well in a terminal."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    print("", f"**{title}**", "", line(head), rule, *map(line, rows), sep="\n", flush=True)


def note(text: str) -> None:
    """Print a sentence about a table."""
    print(text, flush=True)


def keep(part: str, machine: Mapping[str, str], data: Any) -> Path:
    """Write a part's raw data; git does not see it."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / ".gitignore").write_text("*\n")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    path = RESULTS / f"{part}-{stamp}.json"
    path.write_text(json.dumps({"part": part, "machine": machine, "data": data}, indent=1))
    return path
