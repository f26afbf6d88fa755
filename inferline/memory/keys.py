"""API keys in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf

from inferline.accounts.caller import Role
from inferline.accounts.keys import Key


class MemoryKeys:
    """A `KeyStore` in memory."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._uses: dict[str, int] = {}

    async def put_key(self, key: Key) -> None:
        self._keys[key.id] = key

    async def key(self, key_id: str) -> Key | None:
        return self._keys.get(key_id)

    async def keys(self, *roles: Role) -> list[Key]:
        selected = [key for key in self._keys.values() if key.role in roles]
        return sorted(selected, key=lambda key: (key.created_ms, key.id))

    async def replace_secret(self, key: Key, instead_of: str) -> bool:
        current = self._keys.get(key.id)
        if current is None or current.revoked_ms is not None:
            return False
        if current.secret_sha256 not in (instead_of, key.secret_sha256):
            return False
        self._keys[key.id] = replace(
            current,
            secret_sha256=key.secret_sha256,
            old_sha256=key.old_sha256,
            old_until_ms=key.old_until_ms,
        )
        return True

    async def revoke(self, key_id: str, now_ms: int) -> Key | None:
        key = self._keys.get(key_id)
        if key is not None and key.revoked_ms is None:
            key = self._keys[key_id] = replace(key, revoked_ms=now_ms)
        return key

    async def note_use(self, key_id: str, now_ms: int, seconds: float) -> None:
        if now_ms - self._uses.get(key_id, -inf) >= seconds * 1000:
            self._uses[key_id] = now_ms

    async def uses(self) -> Mapping[str, int]:
        return dict(self._uses)
