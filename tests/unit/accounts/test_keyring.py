"""The keyring: whom it lets in, with what scopes, and what it notes of that."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.accounts.caller import Caller
from inferline.accounts.keyring import USE_SECONDS, Keyring
from inferline.accounts.keys import Key, new_key, parse_key, rotated
from inferline.accounts.tenants import Tenant
from inferline.errors import NotAuthenticated, Unavailable
from inferline.memory.keys import MemoryKeys
from inferline.memory.tenants import MemoryTenants

NOW_MS = 1_000_000
HOUR_MS = 3_600_000


class Date:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


def a_keyring(
    keys: Any, now_ms: Any = lambda: NOW_MS, tenants: MemoryTenants | None = None
) -> Keyring:
    return Keyring(keys, tenants or MemoryTenants(), now_ms)


def a_key(**changes: Any) -> tuple[Key, str]:
    given = {"role": "client", "name": "app", "tenant": "acme", "now_ms": NOW_MS} | changes
    return new_key(given.pop("role"), given.pop("name"), **given)


async def opens(keyring: Keyring, text: str) -> bool:
    try:
        await keyring.caller(text)
    except NotAuthenticated:
        return False
    return True


async def test_a_key_opens_and_only_its_hash_is_kept() -> None:
    key, text = a_key()
    store = MemoryKeys()
    await store.put_key(key)

    caller = await a_keyring(store).caller(text)

    assert Caller(tenant="acme", key_id=key.id, role="client", models=("*",)) == caller
    parsed = parse_key(text)
    assert parsed is not None
    assert hashlib.sha256(parsed.secret.encode()).hexdigest() == key.secret_sha256
    assert parsed.secret not in repr(key)


async def test_what_is_no_key_is_refused_without_a_look_into_the_store() -> None:
    keyring = a_keyring(None)

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

    parsed = parse_key(text)
    assert parsed is not None
    assert parsed.secret not in str(refused.value)
    assert "inferline keys create" in str(refused.value)


async def test_a_key_works_until_it_expires() -> None:
    store = MemoryKeys()
    key, text = a_key(expires_ms=NOW_MS + 1)
    await store.put_key(key)

    caller = await a_keyring(store).caller(text)

    assert key.id == caller.key_id


async def test_the_scopes_of_a_key_and_its_tenant_come_with_the_caller() -> None:
    store, tenants = MemoryKeys(), MemoryTenants()
    key, text = a_key(models=("a*",), tiers=("flex", "default"))
    await store.put_key(key)
    await tenants.put_tenant(Tenant(id="acme", models=("ab*",), providers=("t1",)))

    caller = await a_keyring(store, tenants=tenants).caller(text)

    assert (("a*",), ("flex", "default")) == (caller.models, caller.tiers)
    assert (("ab*",), True) == (caller.tenant_models, caller.is_reserved)


async def test_a_tenant_limits_no_providers_token() -> None:
    store, tenants = MemoryKeys(), MemoryTenants()
    key, text = a_key(role="provider")
    await store.put_key(key)
    await tenants.put_tenant(Tenant(id="acme", models=("x",), providers=()))

    caller = await a_keyring(store, tenants=tenants).caller(text)

    assert caller.sees_all


async def test_an_old_secret_opens_until_its_overlap_ends_and_says_then_why_not() -> None:
    date, store = Date(), MemoryKeys()
    key, old = a_key()
    changed, new = rotated(key, now_ms=NOW_MS, overlap_seconds=3600)
    await store.put_key(changed)
    keyring = a_keyring(store, date)

    date.now_ms = NOW_MS + HOUR_MS - 1
    both = [await opens(keyring, text) for text in (old, new)]
    date.now_ms = NOW_MS + HOUR_MS
    with pytest.raises(NotAuthenticated, match="rotated"):
        await keyring.caller(old)

    assert [True, True] == both
    assert await opens(keyring, new)


async def test_a_revocation_ends_both_secrets() -> None:
    store = MemoryKeys()
    key, old = a_key()
    changed, new = rotated(key, now_ms=NOW_MS)
    await store.put_key(replace(changed, revoked_ms=NOW_MS))

    assert [False, False] == [await opens(a_keyring(store), text) for text in (old, new)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 4))
async def test_however_often_a_key_is_rotated_two_secrets_open_at_the_most(
    overlaps: Sequence[int], later: int
) -> None:
    """Overlaps and times in hours; the key is rotated each hour."""
    key, text = a_key()
    texts = [text]
    for hour, overlap in enumerate(overlaps):
        key, text = rotated(key, now_ms=NOW_MS + hour * HOUR_MS, overlap_seconds=overlap * 3600)
        texts.append(text)
    store = MemoryKeys()
    await store.put_key(key)
    now_ms = NOW_MS + (len(overlaps) - 1 + later) * HOUR_MS

    opened = [await opens(a_keyring(store, lambda: now_ms), one) for one in texts]

    assert [*[False] * (len(texts) - 2), later < overlaps[-1], True] == opened


class Counted(MemoryKeys):
    """Keys that note each write of a use, and may not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[int] = []
        self.answers = True

    async def note_use(self, key_id: str, now_ms: int, seconds: float) -> None:
        self.written.append(now_ms)
        if not self.answers:
            raise Unavailable


async def test_the_use_of_a_key_is_written_once_in_an_interval() -> None:
    date, store = Date(), Counted()
    key, text = a_key()
    await store.put_key(key)
    keyring = a_keyring(store, date)

    for seconds in (0, 1, USE_SECONDS - 1, USE_SECONDS, USE_SECONDS + 1):
        date.now_ms = NOW_MS + round(seconds * 1000)
        await keyring.caller(text)
        await asyncio.sleep(0)

    assert [NOW_MS, NOW_MS + round(USE_SECONDS * 1000)] == store.written


async def test_nobody_waits_for_that_and_what_failed_is_tried_again() -> None:
    store = Counted()
    key, text = a_key()
    await store.put_key(key)
    keyring = a_keyring(store)
    store.answers = False

    await keyring.caller(text)
    before = list(store.written)
    await asyncio.sleep(0)
    await keyring.caller(text)
    await asyncio.sleep(0)

    assert [] == before
    assert 2 == len(store.written)


async def test_who_is_refused_is_no_use() -> None:
    store = Counted()
    key, _ = a_key()
    other, wrong = a_key()
    await store.put_key(key)
    await store.put_key(replace(other, secret_sha256=key.secret_sha256))

    assert not await opens(a_keyring(store), wrong)
    await asyncio.sleep(0)

    assert [] == store.written


async def test_without_its_tenants_limits_nobody_is_let_in() -> None:
    class Away(MemoryTenants):
        async def tenant(self, tenant_id: str) -> Tenant:
            raise Unavailable

    store = MemoryKeys()
    key, text = a_key()
    await store.put_key(key)

    with pytest.raises(Unavailable):
        await a_keyring(store, tenants=Away()).caller(text)
