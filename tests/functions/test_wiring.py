"""What is common to all functions keeps to itself what it must not tell."""

from __future__ import annotations

from typing import Any

import pytest

from functions._tracing import wordless
from inferline.errors import Unavailable

CANARY = "canary-of-a-prompt"


def test_what_a_function_raises_unforeseen_says_nothing_and_the_log_says_where(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def falls_over(event: dict[str, Any], context: Any) -> None:
        raise KeyError(event["body"])

    with pytest.raises(RuntimeError, match="unforeseen") as raised:
        wordless(falls_over)({"body": CANARY}, None)

    assert CANARY not in str(raised.value)
    assert "KeyError" in caplog.text
    assert "in falls_over" in caplog.text
    assert CANARY not in caplog.text


def test_what_is_foreseen_passes() -> None:
    def refuses(event: dict[str, Any], context: Any) -> None:
        raise Unavailable

    with pytest.raises(Unavailable):
        wordless(refuses)({}, None)
