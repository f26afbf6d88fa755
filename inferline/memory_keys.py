"""Keys in memory, for tests: the `KeyStore` that forgets."""

from __future__ import annotations

from dataclasses import replace

from inferline.caller import Role
from inferline.keys import Key


class MemoryKeys:
    """A `KeyStore` in memory."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}

    async def put_key(self, key: Key) -> None:
        """Keep a new key."""
        self._keys[key.id] = key

    async def key(self, key_id: str) -> Key | None:
        """The key with that id."""
        return self._keys.get(key_id)

    async def keys(self, role: Role) -> list[Key]:
        """All keys of a role, oldest first."""
        found = [key for key in self._keys.values() if key.role == role]
        return sorted(found, key=lambda key: (key.created_ms, key.id))

    async def revoke(self, key_id: str, now_ms: int) -> Key | None:
        """Revoke a key; the first revocation stands."""
        key = self._keys.get(key_id)
        if key is not None and key.revoked_ms is None:
            key = self._keys[key_id] = replace(key, revoked_ms=now_ms)
        return key
