"""The page of figures is what the published raw data give: nobody has written into it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from bench import page
from bench.parts import PARTS
from bench.publish import newest, rounded
from bench.report import Goal, Table, goals, lines, tell

PUBLISHED = page.read()
PUBLISHED_BYTES_MAX = 1_000_000


def test_the_page_is_made_of_the_published_data() -> None:
    assert page.page(PUBLISHED) == page.PAGE.read_text(), "run `python -m bench publish`"


def test_every_picture_of_the_page_is_there_and_no_other() -> None:
    assert set(page.charts(PUBLISHED)) == set(page.PICTURES.glob("performance-*.svg"))


def test_published_data_stay_small() -> None:
    sizes = [path.stat().st_size for path in page.PUBLISHED.iterdir()]

    assert sum(sizes) < PUBLISHED_BYTES_MAX


@pytest.mark.parametrize("part", PUBLISHED)
def test_every_row_has_a_cell_for_each_column(part: str) -> None:
    for table in tell(PUBLISHED[part]):
        if isinstance(table, Table):
            assert {len(table.head)} == {len(row) for row in table.rows}, table.title


@pytest.mark.parametrize("part", PARTS)
def test_a_part_has_its_module(part: str) -> None:
    assert importlib.util.find_spec(PARTS[part].module)


def test_a_goal_that_is_not_met_shows_as_such() -> None:
    table = goals("Some part", [Goal("a", "<= 1", "0", True), Goal("b", "<= 1", "2", False)])

    assert ["met", "NOT MET"] == [row[-1] for row in table.rows]


def test_figures_keep_four_digits_and_all_else_stays() -> None:
    kept = {"a": [1.23456, 8054.321, 3], "b": {"c": "1.23456"}}

    assert {"a": [1.235, 8054.0, 3], "b": {"c": "1.23456"}} == rounded(kept)


def test_the_newest_file_of_each_part_is_published(tmp_path: Path) -> None:
    for name in ("latency-20260101T000000", "latency-20260102T000000", "calls-20250101T000000"):
        (tmp_path / f"{name}.json").write_text("{}")

    assert ["latency-20260102T000000", "calls-20250101T000000"] == [
        path.stem for path in newest(tmp_path)
    ]


def test_a_part_that_was_looked_at_only_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "head.md").write_text("# Head\n")
    (tmp_path / "overload.md").write_text("A remark.\n")
    machine = {"time": "2026-01-01", "commit": "abc", "load before": "0", "cpu": "x"}
    kept = {"part": "overload", "data": {}, "machine": {**machine, "quick": "True"}}

    text = page.page({"overload": kept}, tmp_path)

    assert "A quick look with few samples, not a result." in text.replace("\n", " ")
    assert text.index("## Overload") < text.index("A remark.")
    assert json.dumps("Latency")[1:-1] in text.rpartition("Not measured yet:")[2]


def test_a_table_is_markdown() -> None:
    table = Table("t", ["a", "bb"], [["1", "2"]])

    assert ["| a | bb |", "|---|----|", "| 1 | 2  |"] == lines(table)
