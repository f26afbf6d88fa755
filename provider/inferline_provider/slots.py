"""Room at the backend: how many tasks may run at once, less while it is busy or fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from inferline.clock import Clock

#: For how long nothing new starts after a backend said that it is busy, and after it failed: else
#: one that refuses everything would be asked as fast as it refuses. One overload shows in many
#: answers and counts once. It doubles each time that nothing was answered in between, up to a
#: limit, so that a backend that is back is asked soon.
CUT_SECONDS: Final = 1.0
FAIL_SECONDS: Final = 0.5
REST_SECONDS_MAX: Final = 16.0
#: After the last cut, a sixteenth of the slots comes back in each such time.
RECOVER_SECONDS: Final = 10.0
RECOVER_SHARE: Final = 16
#: While work waits, so much of the slots is in use at least; the rest is on its way to the next.
PRESSED_SHARE: Final = 0.75


class Slots:
    """
    A counter. It is halved when the backend is busy and grows back little by little. While the
    backend fails again and again it is one: whoever has that finds out whether it still does.

    `on_change` is called whenever more is free, or less is offered, than before.
    """

    def __init__(self, limit: int, clock: Clock, on_change: Callable[[], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        self._full = limit
        self._allowed = limit
        self._moved_at = clock.monotonic()
        self._closed_until = self._moved_at
        #: Rests since the backend last answered.
        self._rests = 0
        self.used = 0
        #: Whether the queues had something for every slot when they were last asked.
        self._filled = False

    @property
    def limit(self) -> int:
        """How many tasks may run at once now."""
        self._recover()
        return 1 if self._rests > 1 else self._allowed

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

    def spare(self, count: int) -> None:
        """Give slots back that were taken and for which nothing came, be it none."""
        self.give(count)
        self._filled = not count and (self._filled or self.used >= self.limit)

    @property
    def pressed(self) -> bool:
        """Whether more would run if there were more slots."""
        return self._filled and self.used >= PRESSED_SHARE * self.limit

    def resize(self, limit: int) -> None:
        """Have `limit` slots from now on."""
        if limit != self._full:
            self._full = self._allowed = limit
            self._on_change()

    def cut(self, seconds: float = 0.0) -> bool:
        """
        Halve the slots, because the backend is busy; for ``seconds``, if it says so.

        False if it is being left alone already: one overload counts once.
        """
        self._recover()
        if not self._rest(max(CUT_SECONDS, seconds)):
            return False
        self._allowed = max(1, self._allowed // 2)
        self._moved_at = self._clock.monotonic()
        self._on_change()
        return True

    def fail(self) -> None:
        """Leave the backend alone for a while, because it failed."""
        if self._rest(FAIL_SECONDS):
            self._on_change()

    def answered(self) -> None:
        """The backend has answered: it is well."""
        if self._rests:
            self._rests = 0
            self._on_change()

    def _rest(self, seconds: float) -> bool:
        """Start nothing new for a while; False if that is so already."""
        now = self._clock.monotonic()
        if now < self._closed_until:
            return False
        self._closed_until = now + min(REST_SECONDS_MAX, seconds * 2**self._rests)
        self._rests = min(self._rests + 1, 10)
        return True

    def _recover(self) -> None:
        steps = int((self._clock.monotonic() - self._moved_at) / RECOVER_SECONDS)
        if steps and self._allowed < self._full:
            gained = steps * max(1, self._full // RECOVER_SHARE)
            self._allowed = min(self._full, self._allowed + gained)
            self._moved_at += steps * RECOVER_SECONDS
