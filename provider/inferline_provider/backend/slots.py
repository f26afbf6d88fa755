"""Room at the backend: how many tasks may run at once, less while it is busy or not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from inferline.clock import Clock

#: For how long nothing new starts after the backend could not be reached, and at the most: it
#: doubles each time that nothing was answered in between, so that one that is back is asked soon.
FAIL_SECONDS: Final = 0.5
REST_SECONDS_MAX: Final = 16.0
#: After a cut, a sixteenth of the slots comes back in each such time, seconds: the first, which
#: doubles, up to the second, whenever what had come back is refused.
RECOVER_SECONDS: Final = (0.5, 10.0)
RECOVER_SHARE: Final = 16
#: One overload shows in many answers; within so long they count once, seconds.
OVERLOAD_SECONDS: Final = 1.0
#: While work waits, so much of the slots is in use at least; the rest is on its way to the next.
PRESSED_SHARE: Final = 0.75


class Slots:
    """
    A counter. It falls to what the backend has room for when that is busy, and grows back little by
    little. While the backend can't be reached again and again it is one: whoever has that finds out
    whether it still can't.

    `on_change` is called whenever more is free, or less is offered, than before.
    """

    def __init__(self, limit: int, clock: Clock, on_change: Callable[[], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        self._full = limit
        self._allowed = limit
        self._moved_at = clock.monotonic()
        self._recover_seconds = RECOVER_SECONDS[0]
        #: Whether slots have come back since the last cut.
        self._grew = False
        self._overloaded_at = float("-inf")
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

    def cut(self, running: int) -> bool:
        """
        Have no more slots than ``running``, because the backend refused one more.

        False if it has no more already, or if that is still the overload of the last cut.
        """
        self._recover()
        if running >= self._allowed:
            return False
        (first, longest), was_full = RECOVER_SECONDS, self._allowed == self._full
        if was_full:
            self._recover_seconds = first
        elif self._grew:
            self._recover_seconds = min(longest, 2 * self._recover_seconds)
        self._grew = False
        self._allowed = max(1, running)
        self._moved_at = now = self._clock.monotonic()
        is_new = now - self._overloaded_at >= OVERLOAD_SECONDS
        if is_new:
            self._overloaded_at = now
        self._on_change()
        return is_new

    def fail(self) -> None:
        """Leave the backend alone for a while, because it could not be reached."""
        now = self._clock.monotonic()
        if now < self._closed_until:
            return
        self._closed_until = now + min(REST_SECONDS_MAX, FAIL_SECONDS * 2**self._rests)
        self._rests = min(self._rests + 1, 10)
        self._on_change()

    def answered(self) -> None:
        """The backend has answered: it is well."""
        if self._rests:
            self._rests = 0
            self._on_change()

    def _recover(self) -> None:
        steps = int((self._clock.monotonic() - self._moved_at) / self._recover_seconds)
        if steps and self._allowed < self._full:
            gained = steps * max(1, self._full // RECOVER_SHARE)
            self._allowed = min(self._full, self._allowed + gained)
            self._grew = True
            self._moved_at += steps * self._recover_seconds
