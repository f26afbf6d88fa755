"""What a backend says of tokens is read whatever its API, and believed only within reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.telemetry import genai
from inferline.telemetry.genai import TOKENS_MAX


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, (3, 4)),
        ({"input_tokens": 3, "output_tokens": 0}, (3, 0)),
        ({"prompt_tokens": 3}, (3, None)),
        ({"prompt_tokens": -1, "completion_tokens": TOKENS_MAX + 1}, (None, None)),
        ({"prompt_tokens": True, "completion_tokens": "4"}, (None, None)),
        ({"prompt_tokens": 1.0, "completion_tokens": TOKENS_MAX}, (None, TOKENS_MAX)),
        ({}, (None, None)),
        (None, (None, None)),
        ([7], (None, None)),
    ],
)
def test_tokens_are_read_by_any_name_and_false_counts_left_out(
    usage: Any, expected: tuple[int | None, int | None]
) -> None:
    tokens = genai.tokens(usage)

    assert expected == (tokens.get("input"), tokens.get("output"))


@given(st.dictionaries(st.sampled_from([*genai._USAGE, "other"]), st.integers() | st.text()))
def test_no_count_is_beyond_reason(usage: dict[str, Any]) -> None:
    assert all(0 <= count <= TOKENS_MAX for count in genai.tokens(usage).values())
