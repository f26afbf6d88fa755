"""A framework's own batch helper, unchanged, works through a real line as it does with OpenAI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: One client's name to what it saw in each case.
SightsOf = Callable[[str], dict[str, dict[str, Any]]]


def test_instructor_gets_all_answers_of_a_batch_in_their_form(sights_of: SightsOf) -> None:
    seen = sights_of("instructor")["batch"]

    assert seen["status"] == "completed"
    assert seen["counts"] == {"total": 5, "completed": 5, "failed": 0}
    assert seen["ids"] == [f"request-{number}" for number in range(5)]
    assert seen["parsed"] == [True] * 5
    assert seen["saved_lines"] == 5
    assert seen["calls"] == 5


def test_instructor_lists_a_batch_with_its_metadata(sights_of: SightsOf) -> None:
    seen = sights_of("instructor")["batch"]

    assert seen["listed_status"] == "completed"
    assert seen["metadata"] == {"owner": "weather"}


def test_instructor_sees_why_a_batch_is_refused(sights_of: SightsOf) -> None:
    seen = sights_of("instructor")["refused"]

    assert seen["status"] == "failed"
    [error] = seen["errors"]
    assert (error["code"], error["line"]) == ("model_not_found", 1)
    assert "no such model" in error["message"]
    assert seen["calls"] == 0


def test_instructor_cancels_a_batch(sights_of: SightsOf) -> None:
    seen = sights_of("instructor")["cancelled"]

    assert seen["at_once"] == "cancelling"
    assert seen["status"] == "cancelled"
