"""The date of stores in memory, which a test can move."""

from __future__ import annotations

import time

from inferline.clock import Clock


class Dates:
    """A date that starts at the wall clock's and moves with a monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epoch_ms = time.time() * 1000 - clock.monotonic() * 1000

    def now_ms(self) -> int:
        """Return milliseconds since 1970."""
        return int(self._epoch_ms + self._clock.monotonic() * 1000)
