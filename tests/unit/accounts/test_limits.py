"""Limits: stored, shown and combined."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.accounts.limits import LIMIT_MAX, NAMES, UNSET, Limits

numbers = st.none() | st.integers(0, LIMIT_MAX)
some_limits = st.builds(Limits, **dict.fromkeys(NAMES, numbers))


@given(some_limits)
def test_limits_are_what_their_text_and_their_row_say(limits: Limits) -> None:
    assert limits == Limits.parse(limits.text())
    assert limits == Limits.from_row(limits.as_dict())


def test_limits_of_a_later_release_are_left_out() -> None:
    row = {"requests_per_minute": 5, "images_per_minute": 2}

    assert Limits(requests_per_minute=5) == Limits.from_row(row)
    assert Limits(requests_per_minute=5) == Limits.parse("requests_per_minute=5 images=2")


def test_an_own_limit_goes_before_the_settings_and_none_is_one_too() -> None:
    own = Limits(requests_per_minute=0, tokens_per_day=7)

    limits = own.over(Limits(requests_per_minute=60, concurrent_requests=5))

    assert Limits(requests_per_minute=0, tokens_per_day=7, concurrent_requests=5) == limits


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (UNSET, False),
        (Limits(requests_per_minute=0), False),
        (Limits(tokens_per_day=1), True),
    ],
)
def test_zero_and_nothing_are_no_limit(limits: Limits, expected: bool) -> None:
    assert expected is limits.exist
