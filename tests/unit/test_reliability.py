"""Every test that the table of faults names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`([a-z0-9_]+/test_[a-z_]+\.py)::(test_[a-z0-9_]+)`")


def test_every_fault_names_tests_that_are_there() -> None:
    text = (ROOT / "docs/reliability.md").read_text()
    faults = text[text.index("## Faults") : text.index("## The protocol")]
    rows = [line for line in faults.splitlines() if line.startswith("| ")][1:]
    named = [NAMED.findall(row) for row in rows]

    assert 44 == len(rows)
    assert [] == [row for row, found in zip(rows, named, strict=True) if not found]
    missing = {
        f"{path}::{name}"
        for found in named
        for path, name in found
        if f"def {name}(" not in (ROOT / "tests" / path).read_text()
    }
    assert set() == missing
