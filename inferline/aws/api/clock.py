"""AWS's own time, learned from its answers, so that a host whose clock is wrong still works."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

#: A ``Date`` header names a second; the moment itself lies anywhere within it.
_RESOLUTION_MS = 1000.0
#: A slow first answer may leave the clock ahead by as much; what is further off was simply wrong.
_STEP_MS = 60_000


class ServerClock:
    """
    Time as AWS sees it: the machine's monotonic clock plus an offset that every answer narrows.

    Until the first answer the offset is that of the machine's wall clock. An exchange begun and
    answered at known moments bounds the true offset to a second and a round trip; the offset moves
    only as far as these bounds force it. So a right wall clock keeps its milliseconds, a wrong one
    is put right at once, drift is followed, and a bad header is forgotten at the next good one.
    """

    def __init__(
        self, monotonic: Callable[[], float], wall: Callable[[], float] = time.time
    ) -> None:
        self._monotonic = monotonic
        self._offset_ms = (wall() - monotonic()) * 1000
        self._latest_ms = 0
        self._date: str | None = None
        self._date_ms = 0.0

    def now_ms(self) -> int:
        """
        Return AWS's time, milliseconds since 1970.

        It does not go back: if it turns out to be ahead, it stands still until AWS's time has
        caught up. Only a correction of more than a minute is a step.
        """
        now = int(self._monotonic() * 1000 + self._offset_ms)
        if now < self._latest_ms < now + _STEP_MS:
            return self._latest_ms
        self._latest_ms = now
        return now

    def observe(self, date: str, sent: float, received: float) -> None:
        """Learn from an answer's ``Date``; ``sent`` and ``received`` are monotonic seconds."""
        if date != self._date:
            try:
                self._date_ms = parsedate_to_datetime(date).timestamp() * 1000
            except ValueError:
                return
            self._date = date
        lowest = self._date_ms - received * 1000
        highest = self._date_ms + _RESOLUTION_MS - sent * 1000
        self._offset_ms = min(max(self._offset_ms, lowest), highest)
