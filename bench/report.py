"""Prints tables, and keeps what they were made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


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
