"""The ledger: one entry for each request, written once when its answer has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One request, answered or refused. Times are durations from its arrival, milliseconds.

    Nothing of its prompt or answer is in it.
    """

    #: When it ended, milliseconds since 1970 by the store's clock.
    ended_ms: int
    tenant: str
    #: Empty when the request did not name one that exists.
    model: str
    tier: str
    path: str
    streamed: bool
    #: HTTP status that the client got.
    status: int
    #: The error's code if the request failed, in whatever form the client got it, as
    #: `inferline.telemetry.genai.error_type` has it; else empty.
    code: str = ""
    #: The provider that ran it, and the attempt's number; empty and 0 if none did.
    provider: str = ""
    attempt: int = 0
    queue_ms: int = 0
    #: Until the first bytes of the answer were sent; None when there were none.
    first_ms: int | None = None
    total_ms: int = 0
    #: Bytes of the answer's body.
    answer_bytes: int = 0
    #: Tokens read and written, as the backend says; 0 if it does not.
    input_tokens: int = 0
    output_tokens: int = 0


class Ledger(Protocol):
    """A recipient of entries."""

    def record(self, entry: Entry) -> None:
        """Record an entry. Never blocks and never raises: an answer does not depend on it."""


class Ledgers:
    """Several ledgers as one."""

    def __init__(self, ledgers: Sequence[Ledger] = ()) -> None:
        self._ledgers = tuple(ledgers)

    def record(self, entry: Entry) -> None:
        """Record an entry in each; see `Ledger`."""
        for ledger in self._ledgers:
            ledger.record(entry)


#: The ledger that keeps nothing.
NO_LEDGER: Final = Ledgers()
