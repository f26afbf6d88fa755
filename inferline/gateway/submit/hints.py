"""Hints in a request's headers: how long its client waits, and if it is a repeat."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf
from typing import Final

from starlette.datastructures import Headers

from inferline.errors import InvalidRequest
from inferline.settings import Settings

#: How long a client waits for an answer, seconds; SDKs in JavaScript, rounded down.
TOTAL_TIMEOUT: Final = "x-stainless-timeout"
#: How long it waits between two pieces of what it reads, seconds; SDKs in Python.
READ_TIMEOUT: Final = "x-stainless-read-timeout"
#: How often an SDK has sent this very request before.
RETRY_COUNT: Final = "x-stainless-retry-count"
IDEMPOTENCY_KEY: Final = "idempotency-key"
#: Characters of an idempotency key; a UUID has 36.
KEY_CHARS_MAX: Final = 255
#: Added to a client's timeout: it may be rounded, and the client should give up before the gateway:
#: its own error names what its user has set.
MARGIN_SECONDS: Final = 1.0

_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_KEY: Final = re.compile(f"[!-~]{{1,{KEY_CHARS_MAX}}}")


@dataclass(frozen=True, slots=True)
class Patience:
    """The time that a client waits."""

    #: For all of the answer, seconds.
    total_seconds: float = inf
    #: For its first byte, seconds.
    first_seconds: float = inf

    @classmethod
    def of(cls, headers: Headers, settings: Settings, *, streamed: bool) -> Patience:
        """
        Read the client's timeouts; malformed ones are ignored.

        A stream that has begun is kept open by comments, and a long silent answer by blanks, so a
        timeout between two reads ends neither.
        """
        total, read = _seconds(headers, TOTAL_TIMEOUT), _seconds(headers, READ_TIMEOUT)
        shortest = min(total, read)
        if streamed:
            waits = shortest < settings.first_byte_wait_seconds
            return cls(first_seconds=shortest + MARGIN_SECONDS if waits else inf)
        if read >= settings.keepalive_after_seconds:
            shortest = total
        return cls(shortest + MARGIN_SECONDS)


def is_retry(headers: Headers) -> bool:
    """Tell if an SDK sends the request again, because it got no answer or a bad one."""
    retries = headers.get(RETRY_COUNT, "0")
    return retries.isascii() and retries.isdigit() and int(retries[:9]) > 0


def idempotency_key(headers: Headers) -> str:
    """Return the request's idempotency key, or "". Raises InvalidRequest."""
    keys = headers.getlist(IDEMPOTENCY_KEY)
    if not keys:
        return ""
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise InvalidRequest(
            f"Send one Idempotency-Key of 1 to {KEY_CHARS_MAX} visible ASCII characters."
        )
    return keys[0]


def _seconds(headers: Headers, name: str) -> float:
    values = headers.getlist(name)
    if len(values) != 1 or not _SECONDS.fullmatch(values[0]):
        return inf
    return float(values[0]) or inf
