"""Who showed a right key lately: a key is looked up once a minute, however often it is shown."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from inferline.accounts.caller import Caller
from inferline.accounts.keyring import Keyring
from inferline.clock import Clock

#: How long a key is taken without a look into its store, and so may still be after it was revoked,
#: has expired, or its scopes have changed.
CACHE_SECONDS: Final = 60.0
#: How many keys are remembered; a key that is not costs the reads of two rows.
CACHE_KEYS_MAX: Final = 10_000


class KeyCache:
    """A keyring that remembers those whose keys were right for `CACHE_SECONDS`."""

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._keyring = keyring
        self._clock = clock
        #: By the key's hash, oldest first; no key stays in memory.
        self._callers: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    async def caller(self, text: str) -> Caller:
        """The bearer of the key ``text``. Raises NotAuthenticated, or Unavailable."""
        digest, now = hashlib.sha256(text.encode()).digest(), self._clock.monotonic()
        caller, until = self._callers.get(digest, (None, 0.0))
        if caller is not None and now < until:
            return caller
        self._callers.pop(digest, None)
        caller = await self._keyring.caller(text)
        self._callers[digest] = caller, now + CACHE_SECONDS
        if len(self._callers) > CACHE_KEYS_MAX:
            self._callers.popitem(last=False)
        return caller
