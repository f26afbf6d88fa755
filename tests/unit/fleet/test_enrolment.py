"""Enrolments whose texts are no texts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from inferline.fleet.enrolment import Enrolment

ENROLMENT: dict[str, Any] = {"id": "p", "version": "1", "slots": 1, "models": [{"id": "m"}]}


@pytest.mark.parametrize("char", ["\x1b", "\x9b", "\x7f", "\n", "\x00", "\u202e"])
@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda text: {"version": text}, ("version",)),
        (lambda text: {"reason": text}, ("reason",)),
        (lambda text: {"models": [{"id": "m", "owned_by": text}]}, ("models", 0, "owned_by")),
        (lambda text: {"id": text}, ("id",)),
        (lambda text: {"models": [{"id": text}]}, ("models", 0, "id")),
        (lambda text: {"nonce": text}, ("nonce",)),
    ],
)
def test_no_text_has_a_character_that_a_terminal_would_obey(
    char: str, change: Any, field: tuple[str | int, ...]
) -> None:
    with pytest.raises(ValidationError) as refused:
        Enrolment.model_validate({**ENROLMENT, **change(f"a{char}[2J")})

    assert [field] == [error["loc"] for error in refused.value.errors()]


def test_the_message_names_the_field_and_not_the_text() -> None:
    with pytest.raises(ValidationError) as refused:
        Enrolment.model_validate({**ENROLMENT, "reason": "canary\x1b"})

    [error] = refused.value.errors(include_input=False)
    assert "`reason` should have printable characters only" == error["msg"]


def test_texts_of_any_language_pass() -> None:
    owner = {"id": "m", "owned_by": "Österreichs größte 模型 🙂"}

    enrolment = Enrolment.model_validate({**ENROLMENT, "reason": "Überlastet.", "models": [owner]})

    assert ("Überlastet.", owner["owned_by"]) == (enrolment.reason, enrolment.models[0].owned_by)
