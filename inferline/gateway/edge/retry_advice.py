"""Retry advice in the headers of every error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from inferline.errors import RETRY_AFTER_SECONDS_MAX

Header = tuple[bytes, bytes]

#: Statuses that a retry does not change, though SDKs repeat some of them: a refused key, a
#: conflict, and what a server does not implement.
FINAL: Final = frozenset({401, 403, 409, 501})
SHOULD_RETRY: Final = b"x-should-retry"
#: Each header with its units per second. Beyond a minute one SDK gives up, one retries at once and
#: one sleeps silently.
_WAITS: Final = {b"retry-after": 1, b"retry-after-ms": 1000}


def advised(status: int, headers: Iterable[Header]) -> list[Header]:
    """Return an error's headers with advice for SDKs about retries."""
    advice = [(name, _bounded(name.lower(), value)) for name, value in headers]
    if status in FINAL and all(name.lower() != SHOULD_RETRY for name, _ in advice):
        advice.append((SHOULD_RETRY, b"false"))
    return advice


def _bounded(name: bytes, value: bytes) -> bytes:
    """Return a wait of a minute at most; for a date or an invalid number the longest."""
    units = _WAITS.get(name)
    if units is None:
        return value
    longest = RETRY_AFTER_SECONDS_MAX * units
    # More digits mean a longer wait, and Python refuses to convert some thousands.
    is_short = value.isdigit() and len(value) <= len(str(longest)) and int(value) <= longest
    return value if is_short else str(longest).encode()
