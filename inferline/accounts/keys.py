"""
API keys and provider tokens: made once, shown once, known afterwards by the hash of their secret.

A key reads ``il_<id>_<secret><check>``, a provider's token ``ilp_...``, an administrator's key
``ila_...``. The prefix lets scanners of repositories find a key that leaked; the check, a CRC-32,
tells a typing error without a look anywhere. The secret is 256 random bits, so that one round of
SHA-256 is all the protection its hash needs.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, Protocol

from inferline.accounts.caller import Role
from inferline.accounts.limits import UNSET, Limits
from inferline.accounts.patterns import EVERY
from inferline.errors import NotAuthenticated
from inferline.tasks.task import TIERS, Tier

PREFIXES: Final[dict[Role, str]] = {"client": "il", "provider": "ilp", "admin": "ila"}
#: The headers of a request's key, in the SDKs of OpenAI and Anthropic and for Azure.
KEY_HEADERS: Final = ("authorization", "x-api-key", "api-key")
#: How long the old secret of a rotated key still works by default, and at the most,
#: seconds.
OVERLAP_SECONDS: Final = 24 * 3600
OVERLAP_SECONDS_MAX: Final = 30 * 24 * 3600

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32
#: Digits of base 62 for 8, 32 and the CRC's 4 bytes.
_ID_CHARS: Final = 11
_SECRET_CHARS: Final = 43
_CHECK_CHARS: Final = 6
#: The form of an id: no key has another one.
ID: Final = re.compile(rf"[0-9A-Za-z]{{{_ID_CHARS}}}")
_FORM: Final = re.compile(
    rf"(il[pa]?)_([0-9A-Za-z]{{{_ID_CHARS}}})_([0-9A-Za-z]{{{_SECRET_CHARS}}})"
    rf"([0-9A-Za-z]{{{_CHECK_CHARS}}})"
)
_ROLES: Final[dict[str, Role]] = {prefix: role for role, prefix in PREFIXES.items()}

Validity = Literal["valid", "expired", "revoked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as it is stored: everything except its secret."""

    id: str
    role: Role
    #: The name that a person gave it.
    name: str
    tenant: str
    #: In hexadecimal.
    secret_sha256: str
    #: Patterns, as of the shell, of the models that a client may ask for with it, or that a
    #: provider may serve.
    models: tuple[str, ...] = EVERY
    #: The tiers that a client may ask for with it.
    tiers: tuple[Tier, ...] = TIERS
    #: The limits of a client that uses it.
    limits: Limits = UNSET
    #: Milliseconds since 1970, here and below.
    created_ms: int
    #: None: never.
    expires_ms: int | None = None
    #: None: it was not.
    revoked_ms: int | None = None
    #: The secret before the last rotation, and until when it works; None: there was none.
    old_sha256: str | None = None
    old_until_ms: int | None = None

    def validity(self, now_ms: int) -> Validity:
        """Return whether the key can be used, or the reason why not."""
        if self.revoked_ms is not None:
            return "revoked"
        return "expired" if self.expires_ms is not None and self.expires_ms <= now_ms else "valid"


class ParsedKey(NamedTuple):
    """The parts of a key's text."""

    role: Role
    id: str
    secret: str


class KeyStore(Protocol):
    """The store of keys. Every method raises `Unavailable` when it does not answer."""

    async def put_key(self, key: Key) -> None:
        """Store a new key. Idempotent."""

    async def key(self, key_id: str) -> Key | None:
        """Return the key with that id, strongly consistent; None if there is none."""

    async def keys(self, *roles: Role) -> list[Key]:
        """
        Return all keys of some roles, oldest first, including expired and revoked ones for a while.
        """

    async def replace_secret(self, key: Key, instead_of: str) -> bool:
        """
        Store the secrets of a rotated key; return False if the key was revoked or its secret's hash
        is no longer ``instead_of``. Idempotent.
        """

    async def revoke(self, key_id: str, now_ms: int) -> Key | None:
        """Revoke a key and return it; the first revocation stands. None if there is none."""

    async def note_use(self, key_id: str, now_ms: int, seconds: float) -> None:
        """Note that a key is used, unless that was noted less than ``seconds`` ago."""

    async def uses(self) -> Mapping[str, int]:
        """Return when each key was last noted to be used, by its id; milliseconds since 1970."""


def new_key(
    role: Role,
    name: str,
    *,
    tenant: str,
    now_ms: int,
    models: tuple[str, ...] = EVERY,
    tiers: tuple[Tier, ...] = TIERS,
    limits: Limits = UNSET,
    expires_ms: int | None = None,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> tuple[Key, str]:
    """Make a new key; return it with its text, which nobody can read again later."""
    key_id = _base62(random_bytes(_ID_BYTES), _ID_CHARS)
    secret = _base62(random_bytes(_SECRET_BYTES), _SECRET_CHARS)
    key = Key(
        id=key_id,
        role=role,
        name=name,
        tenant=tenant,
        secret_sha256=sha256(secret),
        models=models,
        tiers=tiers,
        limits=limits,
        created_ms=now_ms,
        expires_ms=expires_ms,
    )
    return key, _text(role, key_id, secret)


def rotated(
    key: Key,
    *,
    now_ms: int,
    overlap_seconds: float = OVERLAP_SECONDS,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> tuple[Key, str]:
    """
    Return the key with a new secret, and its text.

    The present secret still works during the overlap. At most two secrets work at a time: one from
    before an earlier rotation ends at once.
    """
    secret = _base62(random_bytes(_SECRET_BYTES), _SECRET_CHARS)
    changed = replace(
        key,
        secret_sha256=sha256(secret),
        old_sha256=key.secret_sha256,
        old_until_ms=now_ms + round(overlap_seconds * 1000),
    )
    return changed, _text(key.role, key.id, secret)


def parse_key(text: str) -> ParsedKey | None:
    """Parse the text of a key; None if it is not a whole key."""
    match = _FORM.fullmatch(text)
    if match is None or not hmac.compare_digest(_check(text[:-_CHECK_CHARS]), match[4]):
        return None
    return ParsedKey(_ROLES[match[1]], match[2], match[3])


def key_from_headers(values: Sequence[str]) -> str:
    """
    Return the key among the ``values`` of a request's `KEY_HEADERS`; empty if there is none.

    Another scheme than `Bearer` is for somebody on the way here, and a text that can't be a key
    counts for nothing beside one. Raises NotAuthenticated if there are different keys: the
    request's owner would depend on who reads it.
    """
    if len(values) == 1:  # As in nearly every request.
        return _without_scheme(values[0])
    keys = {text for value in values if (text := _without_scheme(value))}
    if len(keys) > 1:  # SDKs that have to be given a key send a word instead of one.
        keys = {text for text in keys if parse_key(text)} or keys
    if len(keys) > 1:
        raise NotAuthenticated(
            f"The request shows different keys in {', '.join(KEY_HEADERS)}. Send one."
        )
    return keys.pop() if keys else ""


def _without_scheme(value: str) -> str:
    scheme, _, text = value.strip().partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    return "" if text else scheme


def sha256(secret: str) -> str:
    """Return the hash that is stored of a secret, hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _text(role: Role, key_id: str, secret: str) -> str:
    text = f"{PREFIXES[role]}_{key_id}_{secret}"
    return text + _check(text)


def _check(text: str) -> str:
    return _base62(zlib.crc32(text.encode()).to_bytes(4, "big"), _CHECK_CHARS)


def _base62(data: bytes, chars: int) -> str:
    number, digits = int.from_bytes(data, "big"), ""
    for _ in range(chars):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
