"""The ledger: what became of each request, told once when its answer has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One request, answered or refused. Times are durations from its arrival, milliseconds.

    There is no word of what was asked or answered in it.
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
    #: The error's code when the request failed, in whatever form the client was told, as
    #: `inferline.telemetry.genai.error_type` has it; else empty.
    code: str = ""
    #: Who ran it, and in which attempt; empty and 0 when nobody did.
    provider: str = ""
    attempt: int = 0
    queue_ms: int = 0
    #: Until the first bytes of the answer were sent; None when there were none.
    first_ms: int | None = None
    total_ms: int = 0
    #: Of the answer's body.
    answer_bytes: int = 0
    #: What the backend says that it read and wrote; 0 where it does not.
    input_tokens: int = 0
    output_tokens: int = 0


class Ledger(Protocol):
    """Whoever wants to know of requests."""

    def record(self, entry: Entry) -> None:
        """Take note. Never blocks and never raises: an answer does not depend on it."""


class Ledgers:
    """Several ledgers as one."""

    def __init__(self, ledgers: Sequence[Ledger] = ()) -> None:
        self._ledgers = tuple(ledgers)

    def record(self, entry: Entry) -> None:
        """Tell each; see `Ledger`."""
        for ledger in self._ledgers:
            ledger.record(entry)


#: For who keeps none.
NO_LEDGER: Final = Ledgers()
