"""The keyring: checks a key and finds its caller."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable
from typing import Final

from inferline.accounts.caller import Caller, Role
from inferline.accounts.keys import Key, KeyStore, ParsedKey, parse_key, sha256
from inferline.accounts.tenants import Tenant, TenantStore
from inferline.errors import NotAuthenticated, Unavailable
from inferline.expiring import ExpiringMap

log = logging.getLogger(__name__)

#: A key's last use is written at most once in this time, seconds.
USE_SECONDS: Final = 3600.0
#: Keys whose last write a process remembers.
USES_MAX: Final = 10_000

#: Compared with the secret of an unknown key: no secret has this hash.
_NO_SHA256: Final = "0" * 64
_INSTEAD: Final[dict[Role, str]] = {
    "client": "`inferline keys create` makes another.",
    "provider": "`inferline providers token` makes another.",
    "admin": "`inferline keys create --role admin` makes another.",
}


class Keyring:
    """The check of keys against their store."""

    def __init__(self, keys: KeyStore, tenants: TenantStore, now_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._tenants = tenants
        self._now_ms = now_ms
        self._uses = Uses(keys, now_ms)

    async def caller(self, text: str) -> Caller:
        """
        Return the caller that the key ``text`` belongs to. Raises NotAuthenticated, or Unavailable.

        A wrong secret and an unknown id take the same work and get the same answer.
        """
        parsed = parse_key(text)
        if parsed is None:
            raise NotAuthenticated(
                "The API key is missing, or not a whole InferLine key. Send "
                "`Authorization: Bearer il_…` or `x-api-key: il_…`; `inferline keys create` makes "
                "one."
            )
        key = await self._keys.key(parsed.id)
        is_new, is_old = _compared(parsed, key)
        if key is None or not (is_new or is_old) or key.role != parsed.role:
            raise NotAuthenticated("There is no such API key. `inferline keys create` makes one.")
        self._check_in_force(key, is_old=is_old)
        self._uses.note(key.id)
        client = key.role == "client"
        tenant = await self._tenants.tenant(key.tenant) if client else Tenant(id=key.tenant)
        return Caller(
            tenant=key.tenant,
            key_id=key.id,
            role=key.role,
            models=key.models,
            tiers=key.tiers,
            tenant_models=tenant.models,
            is_reserved=tenant.providers is not None,
            limits=key.limits,
            tenant_limits=tenant.limits,
        )

    def _check_in_force(self, key: Key, *, is_old: bool) -> None:
        now_ms, instead = self._now_ms(), _INSTEAD[key.role]
        validity = key.validity(now_ms)
        if validity == "revoked":
            raise NotAuthenticated(f"The key {key.id} was revoked. {instead}")
        if validity == "expired":
            raise NotAuthenticated(f"The key {key.id} has expired. {instead}")
        if is_old and (key.old_until_ms or 0) <= now_ms:
            raise NotAuthenticated(
                f"The key {key.id} was rotated, and this is its old secret. Use the new one."
            )


class Uses:
    """
    The record of when each key was last used, written in the background.

    It only informs people: a write that fails is tried again at the key's next use.
    """

    def __init__(self, keys: KeyStore, now_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._now_ms = now_ms
        #: The keys whose use this process has written lately, by id.
        self._noted = ExpiringMap[str, bool](USES_MAX, lambda: now_ms() / 1000, USE_SECONDS)
        self._writes: set[asyncio.Task[None]] = set()

    def note(self, key_id: str) -> None:
        """Note that a key is used now; return at once."""
        if self._noted.get(key_id):
            return
        self._noted.put(key_id, True)
        write = asyncio.get_running_loop().create_task(self._write(key_id, self._now_ms()))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def _write(self, key_id: str, now_ms: int) -> None:
        try:
            await self._keys.note_use(key_id, now_ms, USE_SECONDS)
        except Unavailable:
            self._noted.pop(key_id)
            log.warning("could not write that the key %s is used", key_id)


def _compared(parsed: ParsedKey, key: Key | None) -> tuple[bool, bool]:
    """
    Return whether the secret is the key's present one, and whether it is the one before.

    Both are always compared, so that the time taken tells nothing.
    """
    digest = sha256(parsed.secret)
    new = key.secret_sha256 if key else _NO_SHA256
    old = (key.old_sha256 if key else None) or _NO_SHA256
    return hmac.compare_digest(digest, new), hmac.compare_digest(digest, old)
