"""Lists, rotates and revokes keys, for the commands and the gateway's routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from inferline.accounts.caller import Role
from inferline.accounts.keys import ID, OVERLAP_SECONDS_MAX, Key, KeyStore, rotated
from inferline.errors import InvalidRequest, KeyNotFound

#: Characters of an unknown id that an error repeats: too few to leak a key pasted by mistake.
_ID_CHARS_SHOWN: Final = 14


@dataclass(frozen=True, slots=True)
class Issuer:
    """
    The administration of keys of some roles. Every method raises `Unavailable` if the store does.
    """

    store: KeyStore
    #: The roles of the keys that it administers; other keys are hidden.
    roles: tuple[Role, ...]

    async def listed(self) -> list[tuple[Key, int | None]]:
        """List all keys, oldest first, each with its last use in milliseconds since 1970."""
        keys, uses = await self.store.keys(*self.roles), await self.store.uses()
        return [(key, uses.get(key.id)) for key in keys]

    async def rotate(self, key_id: str, now_ms: int, overlap_seconds: float) -> tuple[Key, str]:
        """
        Give a key a new secret; return the key and its text. The old secret works until the overlap
        ends.

        Raises KeyNotFound, and InvalidRequest if the key is no longer valid or is being rotated by
        somebody else.
        """
        if not 0 <= overlap_seconds <= OVERLAP_SECONDS_MAX:
            most = OVERLAP_SECONDS_MAX // 86400
            raise InvalidRequest(f"The overlap must be from 0 to {most} days.", param="overlap")
        key = await self._found(key_id)
        if (validity := key.validity(now_ms)) != "valid":
            raise InvalidRequest(f"The {self._noun} {key_id} is {validity}. Make another.")
        changed, text = rotated(key, now_ms=now_ms, overlap_seconds=overlap_seconds)
        if not await self.store.replace_secret(changed, instead_of=key.secret_sha256):
            raise InvalidRequest(f"The {self._noun} {key_id} has just been changed. Try again.")
        return changed, text

    async def revoke(self, key_id: str, now_ms: int) -> Key:
        """Revoke a key and return it; the first revocation stands. Raises KeyNotFound."""
        key = await self._found(key_id)
        return await self.store.revoke(key.id, now_ms) or key

    async def _found(self, key_id: str) -> Key:
        key = await self.store.key(key_id) if ID.fullmatch(key_id) else None
        if key is None or key.role not in self.roles:
            raise KeyNotFound(f"There is no {self._noun} {key_id[:_ID_CHARS_SHOWN]!r}.")
        return key

    @property
    def _noun(self) -> str:
        return "provider's token" if self.roles == ("provider",) else "key"
