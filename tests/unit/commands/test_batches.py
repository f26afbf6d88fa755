"""What a person sees of a batch."""

from __future__ import annotations

from typing import Any

import pytest

from inferline.commands.batches import progress_line
from inferline.commands.progress import bar, duration


def batch(**changes: Any) -> dict[str, Any]:
    counts = {"total": 1000, "completed": 240, "failed": 10}
    given = {"status": "in_progress", "request_counts": counts, "in_progress_at": 1000}
    return given | changes


def test_a_running_batch_has_a_rate_and_an_expected_end() -> None:
    line = progress_line(batch(), 1050)

    assert line.startswith("in_progress ██████░░░░░░░░░░░░░░░░░░  25 %")
    assert line.endswith("250 of 1,000 lines, 10 failed, 5 a second, about 2 min 30 s left")


def test_a_batch_that_is_not_running_has_no_rate() -> None:
    counts = {"total": 0, "completed": 0, "failed": 0}
    line = progress_line(batch(status="validating", request_counts=counts), 1050)

    assert "second" not in line
    assert "  0 %" in line


def test_a_full_bar_is_full_only_when_all_is_done() -> None:
    assert bar(999, 1000).endswith(" 99 %")
    assert bar(1000, 1000) == "█" * 24 + " 100 %"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_time_has_two_units(seconds: float, text: str) -> None:
    assert text == duration(seconds)
