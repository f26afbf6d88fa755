"""Keys: what their text says, and what becomes of it by rotation."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.accounts.keys import Key, ParsedKey, key_from_headers, new_key, parse_key, rotated
from inferline.errors import NotAuthenticated

NOW_MS = 1_000_000


def ones(count: int) -> bytes:
    return b"\x01" * count


def a_key(**changes: Any) -> tuple[Key, str]:
    given = {"role": "client", "name": "app", "tenant": "acme", "now_ms": NOW_MS} | changes
    return new_key(given.pop("role"), given.pop("name"), **given)


def test_a_text_tells_its_role_id_and_secret() -> None:
    key, text = a_key(role="provider", random_bytes=ones)

    parsed = parse_key(text)

    assert parsed == ParsedKey("provider", key.id, parsed.secret if parsed else "")
    assert re.fullmatch(r"ilp_[0-9A-Za-z]{11}_[0-9A-Za-z]{49}", text)
    assert text == a_key(role="provider", random_bytes=ones)[1]


@given(st.binary(min_size=32, max_size=32))
def test_every_secret_fits_and_is_found_again(data: bytes) -> None:
    _, text = a_key(random_bytes=lambda count: data[:count])

    assert 11 + 43 + 6 + len("il__") == len(text)
    assert parse_key(text) is not None


@given(st.text())
def test_any_other_text_is_no_key(text: str) -> None:
    assert parse_key(text) is None


@given(st.integers(0, 63), st.sampled_from("0aZ_é"))
def test_a_typing_error_is_seen_without_a_look_into_the_store(place: int, letter: str) -> None:
    _, text = a_key(random_bytes=ones)
    wrong = text[:place] + letter + text[place + 1 :]

    assert wrong == text or parse_key(wrong) is None


@pytest.mark.parametrize(
    ("role", "prefix"), [("client", "il"), ("provider", "ilp"), ("admin", "ila")]
)
def test_a_prefix_tells_what_a_key_is_for(role: str, prefix: str) -> None:
    key, text = a_key(role=role)

    parsed = parse_key(text)

    assert parsed is not None
    assert (role, key.id) == (parsed.role, parsed.id)
    assert text.startswith(f"{prefix}_")


def test_rotated_a_key_stays_itself_but_for_its_secret() -> None:
    key, old = a_key(models=("a*",), tiers=("flex",), expires_ms=NOW_MS + 9)

    changed, new = rotated(key, now_ms=NOW_MS, overlap_seconds=60)

    assert (key.secret_sha256, NOW_MS + 60_000) == (changed.old_sha256, changed.old_until_ms)
    same = {"secret_sha256": key.secret_sha256, "old_sha256": None, "old_until_ms": None}
    assert key == replace(changed, **same)
    parsed = parse_key(new)
    assert parsed is not None
    assert (key.id, "client") == (parsed.id, parsed.role)
    assert hashlib.sha256(parsed.secret.encode()).hexdigest() == changed.secret_sha256
    assert new != old


@pytest.mark.parametrize(
    "none", ["", " ", "Bearer", "bearer  ", "Basic dXNlcjpwYXNz", "Digest a b"]
)
def test_what_shows_no_key_counts_for_nothing(none: str) -> None:
    assert "" == key_from_headers([none])
    assert "il_1" == key_from_headers([none, "Bearer il_1", " il_1 ", none])


def test_two_keys_are_one_too_many() -> None:
    one, other = a_key()[1], a_key()[1]

    for parsed in ([f"Bearer {one}", other], ["Bearer il_1", "il_2"]):
        with pytest.raises(NotAuthenticated, match="different keys"):
            key_from_headers(parsed)


def test_what_can_be_no_key_counts_for_nothing_beside_one() -> None:
    text = a_key()[1]

    assert text == key_from_headers(["Bearer unused", text, "il_cut"])
