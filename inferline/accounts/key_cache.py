"""A cache of checked keys: each is read once a minute, however often it is presented."""

from __future__ import annotations

import hashlib
from typing import Final

from inferline.accounts.caller import Caller
from inferline.accounts.keyring import Keyring
from inferline.clock import Clock
from inferline.expiring import ExpiringMap

#: How long a key is accepted without a read of its store: also after it was revoked, has expired
#: or its scopes have changed.
CACHE_SECONDS: Final = 60.0
#: Keys in the cache; a key that is not in it costs the reads of two rows.
CACHE_KEYS_MAX: Final = 10_000


class KeyCache:
    """A keyring that remembers a valid key's caller for `CACHE_SECONDS`."""

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._keyring = keyring
        self._clock = clock
        #: By the key's hash: no key stays in memory.
        self._callers = ExpiringMap[bytes, Caller](CACHE_KEYS_MAX, clock.monotonic, CACHE_SECONDS)

    async def caller(self, text: str) -> Caller:
        """Return the caller that the key ``text`` belongs to; see `Keyring.caller`."""
        digest = hashlib.sha256(text.encode()).digest()
        caller = self._callers.get(digest)
        if caller is None:
            read_at = self._clock.monotonic()
            caller = await self._keyring.caller(text)
            age = self._clock.monotonic() - read_at
            self._callers.put(digest, caller, CACHE_SECONDS - age)
        return caller
