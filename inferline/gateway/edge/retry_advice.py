"""What every error tells its client of trying again, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from inferline.errors import RETRY_AFTER_SECONDS_MAX

Header = tuple[bytes, bytes]

#: What another try does not change, though SDKs repeat some of them: a key that is refused, a
#: conflict with what is there, and what a server has not been built to do.
FINAL: Final = frozenset({401, 403, 409, 501})
SHOULD_RETRY: Final = b"x-should-retry"
#: Each with how many of its units a second has. Beyond a minute one SDK gives up, one asks at once
#: and one sleeps in silence.
_WAITS: Final = {b"retry-after": 1, b"retry-after-ms": 1000}


def advised(status: int, headers: Iterable[Header]) -> list[Header]:
    """The headers of an error, with what SDKs are to know of trying again."""
    told = [(name, _bounded(name.lower(), value)) for name, value in headers]
    if status in FINAL and all(name.lower() != SHOULD_RETRY for name, _ in told):
        told.append((SHOULD_RETRY, b"false"))
    return told


def _bounded(name: bytes, value: bytes) -> bytes:
    """A wait of a minute at the most; of a date, or what is no number, the longest."""
    units = _WAITS.get(name)
    if units is None:
        return value
    longest = RETRY_AFTER_SECONDS_MAX * units
    # What has more digits is longer, and Python makes no number of some thousands.
    is_short = value.isdigit() and len(value) <= len(str(longest)) and int(value) <= longest
    return value if is_short else str(longest).encode()
