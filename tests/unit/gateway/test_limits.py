"""Limits: stored, shown and combined."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.accounts.limits import LIMIT_MAX, NAMES, UNSET, Limits
from inferline.gateway.submit.estimate import MEDIA_TOKENS, tokens_of
from inferline.gateway.submit.rates import duration
from inferline.settings import Settings
from inferline.validation.payload import read

numbers = st.none() | st.integers(0, LIMIT_MAX)
some_limits = st.builds(Limits, **dict.fromkeys(NAMES, numbers))
SETTINGS = Settings(output_tokens_assumed=50)
CHAT = "/v1/chat/completions"


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


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"),
        (12, "12ms"),
        (999, "999ms"),
        (1000, "1s"),
        (58_001, "59s"),
        (360_000, "6m0s"),
        (61_205_000, "17h0m5s"),
        (86_400_000, "24h0m0s"),
    ],
)
def test_a_time_is_told_as_in_openais_headers(ms: int, text: str) -> None:
    assert text == duration(ms)


def estimated(body: bytes, path: str = CHAT) -> int:
    return tokens_of(path, read(body), body, SETTINGS)


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        (b"", 50),
        (b',"max_tokens":7', 7),
        (b',"max_completion_tokens":8', 8),
        (b',"max_output_tokens":9', 9),
        (b',"max_tokens":7,"max_completion_tokens":8', 8),
        (b',"max_tokens":0', 0),
        (b',"max_tokens":7,"n":3', 21),
        (b',"n":2', 100),
        (b',"n_predict":-1', 50),
    ],
)
def test_a_request_may_take_its_prompt_and_the_longest_answer(fields: bytes, answer: int) -> None:
    body = b'{"model":"m","messages":[]' + fields + b"}"

    assert -(-len(body) // 4) + answer == estimated(body)


def test_each_prompt_of_a_completion_has_an_answer() -> None:
    body = b'{"model":"m","prompt":["a","b","c"],"n":2,"max_tokens":10}'

    assert -(-len(body) // 4) + 60 == estimated(body, "/v1/completions")


def test_what_writes_nothing_takes_its_prompt_alone() -> None:
    body = b'{"model":"m","input":"some text"}'

    assert -(-len(body) // 4) == estimated(body, "/v1/embeddings")


@pytest.mark.parametrize("begin", [b"data:image/png;base64,", b""])
def test_an_image_is_not_counted_by_its_bytes(begin: bytes) -> None:
    image = b'"' + begin + b"iVBOR/+w0" * 50_000 + b'"'
    body = b'{"model":"m","max_tokens":0,"messages":[{"content":[{"data":' + image + b"}]}]}"

    assert MEDIA_TOKENS < estimated(body) < MEDIA_TOKENS + 50


def test_a_long_text_is_counted_by_its_bytes() -> None:
    body = b'{"model":"m","max_tokens":0,"messages":[{"content":"' + b"word " * 4000 + b'"}]}'

    assert estimated(body) > 5000
