"""Room at the backend: how many tasks may run at once, less while it says that it is busy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from inferline.clock import Clock

#: Between two cuts: one overload shows in many answers and is one reason to cut. For as long
#: nothing new starts, or a backend that refuses everything would be asked as fast as it refuses.
CUT_SECONDS: Final = 1.0
#: After the last cut, a sixteenth of the slots comes back in each such time.
RECOVER_SECONDS: Final = 10.0
RECOVER_SHARE: Final = 16


class Slots:
    """
    A counter. It is halved when the backend is busy and grows back little by little.

    `on_change` is called whenever more is free, or less is offered, than before.
    """

    def __init__(self, limit: int, clock: Clock, on_change: Callable[[], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        self._full = limit
        self._allowed = limit
        self._moved_at = clock.monotonic()
        self._closed_until = self._moved_at
        self.used = 0

    @property
    def limit(self) -> int:
        """How many tasks may run at once now."""
        self._recover()
        return self._allowed

    @property
    def free(self) -> int:
        """How many more may start now."""
        if self._clock.monotonic() < self._closed_until:
            return 0
        return max(0, self.limit - self.used)

    def take(self, wanted: int) -> int:
        """Take up to `wanted` free slots and return how many."""
        taken = min(wanted, self.free)
        self.used += taken
        return taken

    def give(self, count: int = 1) -> None:
        """Give slots back."""
        self.used -= count
        if count:
            self._on_change()

    def resize(self, limit: int) -> None:
        """Have `limit` slots from now on."""
        if limit != self._full:
            self._full = self._allowed = limit
            self._on_change()

    def cut(self) -> None:
        """Halve the slots, because the backend is busy; at most once in `CUT_SECONDS`."""
        now = self._clock.monotonic()
        if now < self._closed_until:
            return
        self._allowed = max(1, self.limit // 2)
        self._moved_at = now
        self._closed_until = now + CUT_SECONDS
        self._on_change()

    def _recover(self) -> None:
        steps = int((self._clock.monotonic() - self._moved_at) / RECOVER_SECONDS)
        if steps and self._allowed < self._full:
            gained = steps * max(1, self._full // RECOVER_SHARE)
            self._allowed = min(self._full, self._allowed + gained)
            self._moved_at += steps * RECOVER_SECONDS
