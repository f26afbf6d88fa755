"""Every test that the tables of faults and of threats name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`([a-z0-9_/]+/test_[a-z_]+\.py)::(test_[a-z0-9_]+)`")


@pytest.mark.parametrize(
    ("paper", "title", "rows_there"),
    [("reliability", "## Faults", 46), ("security", "## Threats", 65)],
)
def test_every_row_names_tests_that_are_there(paper: str, title: str, rows_there: int) -> None:
    text = (ROOT / f"docs/{paper}.md").read_text()
    section = text.partition(f"{title}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    named = [NAMED.findall(row) for row in rows]

    assert rows_there == len(rows)
    assert [] == [row for row, tests in zip(rows, named, strict=True) if not tests]
    missing = {
        f"{path}::{name}"
        for tests in named
        for path, name in tests
        if f"def {name}(" not in (ROOT / "tests" / path).read_text()
    }
    assert set() == missing
