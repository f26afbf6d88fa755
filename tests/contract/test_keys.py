"""The contract of every store of API keys."""

from __future__ import annotations

from dataclasses import replace

from inferline.accounts.keys import Key, new_key, rotated
from inferline.accounts.limits import Limits
from tests.support.seams import Seams


def key(name: str = "app", role: str = "client", now_ms: int = 1, **fields: object) -> Key:
    return new_key(role, name, tenant="t", now_ms=now_ms, **fields)[0]  # type: ignore[arg-type]


async def test_a_key_is_read_as_it_was_kept(seams: Seams) -> None:
    bare = key()
    limits = Limits(requests_per_minute=60, tokens_per_day=0)
    scopes = {"models": ("org/*", "m"), "tiers": ("flex",), "limits": limits}
    full = key("gpu", "provider", **scopes, expires_ms=5)
    await seams.keys.put_key(bare)
    await seams.keys.put_key(full)

    assert bare == await seams.keys.key(bare.id)
    assert full == await seams.keys.key(full.id)
    assert await seams.keys.key("another") is None


async def test_keys_are_listed_by_role_oldest_first(seams: Seams) -> None:
    second, first, token = key(now_ms=2), key(now_ms=1), key(role="provider")
    admin = key(role="admin", now_ms=3)
    for app_key in (admin, second, first, token):
        await seams.keys.put_key(app_key)

    assert [first, second] == await seams.keys.keys("client")
    assert [token] == await seams.keys.keys("provider")
    assert [first, second, admin] == await seams.keys.keys("client", "admin")


async def test_a_rotated_key_has_its_new_secret_and_the_old_one_beside_it(seams: Seams) -> None:
    app_key = key()
    await seams.keys.put_key(app_key)
    changed, _ = rotated(app_key, now_ms=7, overlap_seconds=60)

    done = await seams.keys.replace_secret(changed, app_key.secret_sha256)
    again = await seams.keys.replace_secret(changed, app_key.secret_sha256)

    assert (True, True) == (done, again)
    assert changed == await seams.keys.key(app_key.id)


async def test_of_two_rotations_at_once_one_counts(seams: Seams) -> None:
    app_key = key()
    await seams.keys.put_key(app_key)
    (first, _), (second, _) = (rotated(app_key, now_ms=7) for _ in range(2))

    done = [
        await seams.keys.replace_secret(each, app_key.secret_sha256) for each in (first, second)
    ]

    assert [True, False] == done
    assert first == await seams.keys.key(app_key.id)


async def test_what_is_revoked_or_does_not_exist_gets_no_secret(seams: Seams) -> None:
    app_key, nowhere = key(), key()
    await seams.keys.put_key(app_key)
    revoked = await seams.keys.revoke(app_key.id, 7)

    for each in (app_key, nowhere):
        changed, _ = rotated(each, now_ms=8)
        assert not await seams.keys.replace_secret(changed, each.secret_sha256)

    assert revoked == await seams.keys.key(app_key.id)
    assert await seams.keys.key(nowhere.id) is None


async def test_a_use_is_noted_once_in_an_interval_and_by_the_key(seams: Seams) -> None:
    assert {} == await seams.keys.uses()

    for now_ms in (100_000, 109_999, 110_000, 115_000):
        await seams.keys.note_use("one", now_ms, 10)
    await seams.keys.note_use("two", 5_000, 10)

    assert {"one": 110_000, "two": 5_000} == await seams.keys.uses()


async def test_a_noted_use_is_no_key(seams: Seams) -> None:
    await seams.keys.note_use("one", 1, 10)

    assert await seams.keys.key("one") is None
    assert [] == await seams.keys.keys("client", "provider", "admin")


async def test_a_revoked_key_is_so_at_once_and_its_first_revocation_stands(seams: Seams) -> None:
    app_key = key(expires_ms=9)
    await seams.keys.put_key(app_key)

    revoked = await seams.keys.revoke(app_key.id, 7)
    again = await seams.keys.revoke(app_key.id, 8)

    assert replace(app_key, revoked_ms=7) == revoked
    assert revoked == again
    assert revoked == await seams.keys.key(app_key.id)


async def test_what_does_not_exist_cant_be_revoked(seams: Seams) -> None:
    assert await seams.keys.revoke("another", 7) is None
    assert await seams.keys.key("another") is None


async def test_keys_are_no_models_and_no_providers(seams: Seams) -> None:
    await seams.keys.put_key(key())

    snapshot = await seams.registry.snapshot()

    assert ({}, {}) == (snapshot.models, snapshot.providers)
