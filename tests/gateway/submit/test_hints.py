"""What clients tell in headers: only what makes sense counts, and only where it means something."""

from __future__ import annotations

from math import inf

import pytest
from starlette.datastructures import Headers

from inferline.errors import InvalidRequest
from inferline.gateway.submit.hints import MARGIN_SECONDS, Patience, idempotency_key, is_retry
from inferline.settings import Settings

SETTINGS = Settings(first_byte_wait_seconds=20.0, keepalive_after_seconds=240.0)


def patience(streamed: bool = False, **told: str) -> Patience:
    headers = Headers({name.replace("_", "-"): value for name, value in told.items()})
    return Patience.of(headers, SETTINGS, streamed=streamed)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ({"x_stainless_timeout": "30"}, 30),
        ({"x_stainless_read_timeout": "2.5"}, 2.5),
        ({"x_stainless_read_timeout": "60.0", "x_stainless_timeout": "20"}, 20),
        ({"x_stainless_timeout": "600"}, 600),
    ],
)
def test_a_clients_timeout_is_how_long_it_waits(told: dict[str, str], seconds: float) -> None:
    assert Patience(total_seconds=seconds + MARGIN_SECONDS) == patience(**told)


@pytest.mark.parametrize(
    "text",
    ["", "0", "0.0", "-1", "None", "NOT_GIVEN", "1e3", "nan", "inf", "1 s", "\xb3", "9" * 40],
)
def test_a_timeout_that_makes_no_sense_is_none(text: str) -> None:
    assert Patience() == patience(x_stainless_timeout=text, x_stainless_read_timeout=text)


def test_a_timeout_told_twice_is_none() -> None:
    headers = Headers(raw=[(b"x-stainless-timeout", b"5")] * 2)

    assert Patience() == Patience.of(headers, SETTINGS, streamed=False)


def test_a_timeout_between_reads_is_none_where_blanks_come_in_between() -> None:
    assert Patience() == patience(x_stainless_read_timeout="240")


def test_a_stream_is_waited_for_until_its_first_byte_and_no_longer() -> None:
    first = Patience(total_seconds=inf, first_seconds=5 + MARGIN_SECONDS)

    assert first == patience(streamed=True, x_stainless_read_timeout="5")
    assert first == patience(streamed=True, x_stainless_timeout="5")
    assert Patience() == patience(streamed=True, x_stainless_read_timeout="20")


@pytest.mark.parametrize(
    ("told", "expected"),
    [("0", False), ("1", True), ("2", True), ("", False), ("-1", False), ("x", False)],
)
def test_a_retry_says_so(told: str, expected: bool) -> None:
    assert expected is is_retry(Headers({"x-stainless-retry-count": told}))


def test_what_says_nothing_is_no_retry_and_has_no_key() -> None:
    assert not is_retry(Headers())
    assert "" == idempotency_key(Headers())


def test_a_key_is_any_visible_ascii_up_to_a_length() -> None:
    assert "a-Key_1~" == idempotency_key(Headers({"Idempotency-Key": "a-Key_1~"}))
    assert "k" * 255 == idempotency_key(Headers({"idempotency-key": "k" * 255}))


@pytest.mark.parametrize("told", ["", " ", "a b", "k" * 256, "\x7f", "é"])
def test_any_other_key_is_refused(told: str) -> None:
    with pytest.raises(InvalidRequest, match="Idempotency-Key"):
        idempotency_key(Headers(raw=[(b"idempotency-key", told.encode("latin-1"))]))


def test_two_keys_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        idempotency_key(Headers(raw=[(b"idempotency-key", b"a")] * 2))
