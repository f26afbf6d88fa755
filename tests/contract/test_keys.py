"""What every store of keys guarantees."""

from __future__ import annotations

from dataclasses import replace

from inferline.keys import Key, new_key
from tests.support.seams import Seams


def key(name: str = "app", role: str = "client", now_ms: int = 1, **told: object) -> Key:
    return new_key(role, name, tenant="t", now_ms=now_ms, **told)[0]  # type: ignore[arg-type]


async def test_a_key_is_read_as_it_was_kept(seams: Seams) -> None:
    bare = key()
    full = key("gpu", "provider", models=("org/*", "m"), expires_ms=5)
    await seams.keys.put_key(bare)
    await seams.keys.put_key(full)

    assert bare == await seams.keys.key(bare.id)
    assert full == await seams.keys.key(full.id)
    assert await seams.keys.key("another") is None


async def test_keys_are_listed_by_role_oldest_first(seams: Seams) -> None:
    second, first, token = key(now_ms=2), key(now_ms=1), key(role="provider")
    for one in (second, first, token):
        await seams.keys.put_key(one)

    assert [first, second] == await seams.keys.keys("client")
    assert [token] == await seams.keys.keys("provider")


async def test_a_revoked_key_is_so_at_once_and_its_first_revocation_stands(seams: Seams) -> None:
    one = key(expires_ms=9)
    await seams.keys.put_key(one)

    told = await seams.keys.revoke(one.id, 7)
    again = await seams.keys.revoke(one.id, 8)

    assert replace(one, revoked_ms=7) == told
    assert told == again
    assert told == await seams.keys.key(one.id)


async def test_what_does_not_exist_cant_be_revoked(seams: Seams) -> None:
    assert await seams.keys.revoke("another", 7) is None
    assert await seams.keys.key("another") is None


async def test_keys_are_no_models_and_no_providers(seams: Seams) -> None:
    await seams.keys.put_key(key())

    snapshot = await seams.registry.snapshot()

    assert ({}, {}) == (snapshot.models, snapshot.providers)
