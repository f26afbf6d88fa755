"""Keys: what their text says, and whom the keyring lets in."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.caller import Caller
from inferline.errors import NotAuthenticated
from inferline.keyring import Keyring
from inferline.keys import Shown, new_key, parse
from inferline.memory_keys import MemoryKeys
from inferline.memory_tenants import MemoryTenants

NOW_MS = 1_000_000


def ones(count: int) -> bytes:
    return b"\x01" * count


def a_keyring(keys: MemoryKeys, now_ms: int = NOW_MS) -> Keyring:
    return Keyring(keys, MemoryTenants(), lambda: now_ms)


def a_key(**told: object):  # type: ignore[no-untyped-def]
    given = {"role": "client", "name": "app", "tenant": "acme", "now_ms": NOW_MS} | told
    role, name = given.pop("role"), given.pop("name")
    return new_key(role, name, **given)  # type: ignore[arg-type]


async def test_a_key_opens_and_only_its_hash_is_kept() -> None:
    key, text = a_key()
    store = MemoryKeys()
    await store.put_key(key)

    caller = await a_keyring(store).caller(text)

    assert Caller(tenant="acme", key_id=key.id, role="client", models=("*",)) == caller
    shown = parse(text)
    assert shown is not None
    assert hashlib.sha256(shown.secret.encode()).hexdigest() == key.secret_sha256
    assert shown.secret not in repr(key)


def test_a_text_tells_its_role_id_and_secret() -> None:
    key, text = a_key(role="provider", random_bytes=ones)

    shown = parse(text)

    assert shown == Shown("provider", key.id, shown.secret if shown else "")
    assert re.fullmatch(r"ilp_[0-9A-Za-z]{11}_[0-9A-Za-z]{49}", text)
    assert text == a_key(role="provider", random_bytes=ones)[1]


@given(st.binary(min_size=32, max_size=32))
def test_every_secret_fits_and_is_found_again(data: bytes) -> None:
    _, text = a_key(random_bytes=lambda count: data[:count])

    assert 11 + 43 + 6 + len("il__") == len(text)
    assert parse(text) is not None


@given(st.text())
def test_any_other_text_is_no_key(text: str) -> None:
    assert parse(text) is None


@given(st.integers(0, 63), st.sampled_from("0aZ_é"))
def test_a_typing_error_is_seen_without_a_look_into_the_store(place: int, letter: str) -> None:
    _, text = a_key(random_bytes=ones)
    wrong = text[:place] + letter + text[place + 1 :]

    assert wrong == text or parse(wrong) is None


async def test_what_is_no_key_is_refused_without_a_look_into_the_store() -> None:
    keyring = a_keyring(None)  # type: ignore[arg-type]

    for text in ("", "sk-123", "il_", a_key()[1][:-1], a_key()[1] + "0"):
        with pytest.raises(NotAuthenticated):
            await keyring.caller(text)


async def test_an_unknown_key_and_a_wrong_secret_get_the_same_answer() -> None:
    store = MemoryKeys()
    key, right = a_key()
    _, unknown = a_key()
    other, wrong = a_key()
    await store.put_key(replace(other, secret_sha256=key.secret_sha256))
    messages = set()

    for text in (right, unknown, wrong):
        with pytest.raises(NotAuthenticated) as refused:
            await a_keyring(store).caller(text)
        messages.add(str(refused.value))

    assert 1 == len(messages)


async def test_a_clients_key_is_none_of_a_provider() -> None:
    store = MemoryKeys()
    key, text = a_key(role="provider")
    await store.put_key(replace(key, role="client"))

    with pytest.raises(NotAuthenticated):
        await a_keyring(store).caller(text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"revoked_ms": NOW_MS}, "revoked"), ({"expires_ms": NOW_MS}, "expired")],
)
async def test_a_key_no_longer_in_force_is_refused_and_not_repeated(
    changes: dict[str, int], said: str
) -> None:
    store = MemoryKeys()
    key, text = a_key()
    await store.put_key(replace(key, **changes))

    with pytest.raises(NotAuthenticated, match=said) as refused:
        await a_keyring(store).caller(text)

    shown = parse(text)
    assert shown is not None
    assert shown.secret not in str(refused.value)
    assert "inferline keys create" in str(refused.value)


async def test_a_key_works_until_it_expires() -> None:
    store = MemoryKeys()
    key, text = a_key(expires_ms=NOW_MS + 1)
    await store.put_key(key)

    caller = await a_keyring(store).caller(text)

    assert key.id == caller.key_id
