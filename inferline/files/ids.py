"""Ids of files, uploads and batches: they sort by their time of creation."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Final

#: Crockford's base 32 in lower case: it sorts as the numbers do.
_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_CHARS: Final = 26
_RANDOM_BITS: Final = 80
#: The ids of files and of batches, as patterns.
FILE_ID: Final = rf"file-[{_DIGITS}]{{{_CHARS}}}"
BATCH_ID: Final = rf"batch_[{_DIGITS}]{{{_CHARS}}}"
_ID: Final = re.compile(rf"(?:file-|upload_|part_|batch_)[{_DIGITS}]{{{_CHARS}}}")


def new_id(prefix: str, now_ms: int, randbits: Callable[[int], int] = secrets.randbits) -> str:
    """Return a new id: the prefix, 48 bits of time in milliseconds, and 80 random bits."""
    number = (now_ms << _RANDOM_BITS) | randbits(_RANDOM_BITS)
    return prefix + "".join(_DIGITS[number >> 5 * at & 31] for at in reversed(range(_CHARS)))


def is_id(text: str) -> bool:
    """Return whether `new_id` may have made it. Nothing else ever becomes part of a key."""
    return _ID.fullmatch(text) is not None
