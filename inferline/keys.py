"""
API keys and provider tokens: made once, shown once, known afterwards by the hash of their secret.

A key reads ``il_<id>_<secret><check>``, a provider's token ``ilp_...``. The prefix lets scanners of
repositories find a key that leaked; the check, a CRC-32, tells a typing error without a look
anywhere. The secret is 256 random bits, so that one round of SHA-256 is all the protection its
hash needs.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from inferline.caller import Caller, Role
from inferline.errors import NotAuthenticated

PREFIXES: Final[dict[Role, str]] = {"client": "il", "provider": "ilp"}

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32
#: How many digits of base 62 hold 8, 32 and the CRC's 4 bytes.
_ID_CHARS: Final = 11
_SECRET_CHARS: Final = 43
_CHECK_CHARS: Final = 6
_FORM: Final = re.compile(
    rf"(ilp?)_([0-9A-Za-z]{{{_ID_CHARS}}})_([0-9A-Za-z]{{{_SECRET_CHARS}}})"
    rf"([0-9A-Za-z]{{{_CHECK_CHARS}}})"
)
_ROLES: Final[dict[str, Role]] = {prefix: role for role, prefix in PREFIXES.items()}
#: What the secret of an unknown key is compared with: no secret has this hash.
_NO_SHA256: Final = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as it is kept: all but its secret."""

    id: str
    role: Role
    #: What a person called it.
    name: str
    tenant: str
    #: In hexadecimal.
    secret_sha256: str
    #: Patterns, as of the shell, of the models that a provider may serve with it.
    models: tuple[str, ...] = ("*",)
    #: Milliseconds since 1970, here and below.
    created_ms: int
    #: None: never.
    expires_ms: int | None = None
    #: None: it was not.
    revoked_ms: int | None = None


class Shown(NamedTuple):
    """What the text of a key says."""

    role: Role
    id: str
    secret: str


class KeyStore(Protocol):
    """Where keys are kept. Every method raises `Unavailable` when the store does not answer."""

    async def put_key(self, key: Key) -> None:
        """Keep a new key. Idempotent."""

    async def key(self, key_id: str) -> Key | None:
        """The key with that id as it is now, not a moment ago; None where there is none."""

    async def keys(self, role: Role) -> list[Key]:
        """All keys of a role, oldest first, those of no use any more among them for a while."""

    async def revoke(self, key_id: str, now_ms: int) -> Key | None:
        """Revoke a key and return it; the first revocation stands. None where there is none."""


def new_key(
    role: Role,
    name: str,
    *,
    tenant: str,
    now_ms: int,
    models: tuple[str, ...] = ("*",),
    expires_ms: int | None = None,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> tuple[Key, str]:
    """A new key, and its text: what its bearer is to show, and what nobody can tell again."""
    key_id = _base62(random_bytes(_ID_BYTES), _ID_CHARS)
    secret = _base62(random_bytes(_SECRET_BYTES), _SECRET_CHARS)
    text = f"{PREFIXES[role]}_{key_id}_{secret}"
    key = Key(
        id=key_id,
        role=role,
        name=name,
        tenant=tenant,
        secret_sha256=_sha256(secret),
        models=models,
        created_ms=now_ms,
        expires_ms=expires_ms,
    )
    return key, text + _check(text)


def parse(text: str) -> Shown | None:
    """What the text of a key says; None for a text that is none, or not a whole one."""
    found = _FORM.fullmatch(text)
    if found is None or not hmac.compare_digest(_check(text[:-_CHECK_CHARS]), found[4]):
        return None
    return Shown(_ROLES[found[1]], found[2], found[3])


class Keyring:
    """Tells whose key a text is."""

    def __init__(self, store: KeyStore, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def caller(self, text: str) -> Caller:
        """
        The bearer of the key ``text``. Raises NotAuthenticated, or Unavailable.

        A wrong secret and an unknown id take the same work and get the same answer.
        """
        shown = parse(text)
        if shown is None:
            raise NotAuthenticated(
                "The API key is missing, or not a whole InferLine key. Send "
                "`Authorization: Bearer il_…`; `inferline keys create` makes one."
            )
        key = await self._store.key(shown.id)
        expected = key.secret_sha256 if key else _NO_SHA256
        is_right = hmac.compare_digest(_sha256(shown.secret), expected)
        if key is None or not is_right or key.role != shown.role:
            raise NotAuthenticated("There is no such API key. `inferline keys create` makes one.")
        self._check_in_force(key)
        return Caller(tenant=key.tenant, key_id=key.id, role=key.role, models=key.models)

    def _check_in_force(self, key: Key) -> None:
        instead = {
            "client": "`inferline keys create` makes another.",
            "provider": "`inferline providers token` makes another.",
        }[key.role]
        if key.revoked_ms is not None:
            raise NotAuthenticated(f"The key {key.id} was revoked. {instead}")
        if key.expires_ms is not None and key.expires_ms <= self._now_ms():
            raise NotAuthenticated(f"The key {key.id} has expired. {instead}")


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _check(text: str) -> str:
    return _base62(zlib.crc32(text.encode()).to_bytes(4, "big"), _CHECK_CHARS)


def _base62(data: bytes, chars: int) -> str:
    number, digits = int.from_bytes(data, "big"), ""
    for _ in range(chars):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
