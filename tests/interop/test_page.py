"""The page of the matrix shows what the runs have seen, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop import page
from tests.interop.cells import Cell, Wrong, check, tidy, tried


def row(**cells: dict[str, str]) -> dict[str, Any]:
    return {"version": "1.2", "date": "2026-12-01", "seconds": 9, "cells": cells}


def test_a_row_shows_its_version_its_date_and_a_word_for_each_column() -> None:
    seen = row(list={"verdict": "yes"}, plain={"verdict": "no"}, stream={"verdict": "told"})

    lines = page.rendered({"servers": {"vLLM": seen}}).splitlines()

    assert "| vLLM | 1.2 | 2026-12-01 | yes | **no** | told | - | - | - | - | - |" in lines


def test_a_note_names_its_column_and_holds_no_markup_of_others() -> None:
    seen = row(plain={"verdict": "no", "note": "<b> says *max_tokens* | no."})

    text = page.rendered({"servers": {"vLLM": seen}})

    assert "- **vLLM**: *whole answer* &lt;b> says \\*max\\_tokens\\* \\| no." in text.splitlines()


def test_what_could_not_be_had_says_why() -> None:
    seen = row() | {"unavailable": "it needs another Python"}

    text = page.rendered({"emulators": {"LocalStack": seen}})

    assert "- **LocalStack**: not tried: it needs another Python." in text.splitlines()


def test_the_page_is_what_its_results_say() -> None:
    assert page.rendered(page.read()) == page.PAGE.read_text()


def wrong() -> Cell:
    check(False, "other words at /home/x/y.py and 127.0.0.1:4711")
    return Cell("yes")


def late() -> Cell:
    raise TimeoutError


def broken() -> Cell:
    return {}["nothing"]


@pytest.mark.parametrize(
    ("look", "note"),
    [
        (wrong, "other words at (path) and 127.0.0.1"),
        (late, "nothing within 5 s"),
        (broken, "KeyError: 'nothing'"),
    ],
)
def test_a_cell_that_fails_says_how(look: Any, note: str) -> None:
    assert Cell("no", note) == tried(look, 5)


def test_a_note_is_one_short_line() -> None:
    note = tidy("a\n\n b \x1b[31mc" + "x" * 1000)

    assert note.startswith("a b cxxx")
    assert len(note) <= 240


def test_a_check_that_holds_says_nothing() -> None:
    check("something", "never said")

    with pytest.raises(Wrong, match="said"):
        check("", "said")
