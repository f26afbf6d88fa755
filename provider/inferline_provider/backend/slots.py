"""Slots: how many tasks may run at once; fewer while the backend is busy or unreachable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from inferline.background import Backoff
from inferline.clock import Clock
from inferline_provider.pauses import PAUSES, Pauses

#: After a cut, this part of the slots (1/16) comes back at each step.
RECOVER_SHARE: Final = 16
#: Time in which several refusals count as one overload, seconds.
OVERLOAD_SECONDS: Final = 1.0
#: While work waits, at least this share of the slots is in use; the rest are free for a moment
#: between two tasks.
IN_USE_SHARE: Final = 0.75


class Slots:
    """
    A counter of slots. The limit falls when the backend is busy, and grows back step by step. While
    the backend is unreachable the limit is 1; that one task tests it.

    `on_change` is called whenever a slot falls free, or the limit changes. Lines of batches run in
    slots that are free here: `on_requests` is called whenever these may be fewer, or more.
    """

    def __init__(
        self,
        limit: int,
        clock: Clock,
        on_change: Callable[[], None],
        pauses: Pauses = PAUSES,
    ) -> None:
        self._clock = clock
        self._on_change = on_change
        self._full = limit
        self._allowed = limit
        self._moved_at = clock.monotonic()
        self._pauses = pauses
        self._recover_seconds = pauses.recover_seconds[0]
        #: Whether slots have come back since the last cut.
        self._has_recovered = False
        self._overloaded_at = float("-inf")
        self._paused_until = self._moved_at
        #: Times that the backend could not be reached since it last answered.
        self._failures = 0
        self.used = 0
        #: How many of them are kept for receives under way, and may not be needed.
        self._reserved = 0
        self.on_requests: Callable[[], None] = lambda: None
        #: Whether the queues had a task for every slot at the last poll.
        self._poll_filled_all = False

    @property
    def limit(self) -> int:
        """Return the number of tasks that may run at once now."""
        self._recover()
        return 1 if self._failures > 1 else self._allowed

    @property
    def free(self) -> int:
        """Return the number of tasks that may start now."""
        if self.is_paused:
            return 0
        return max(0, self.limit - self.used)

    @property
    def is_paused(self) -> bool:
        """Return True while the backend is left alone, because it could not be reached."""
        return self._clock.monotonic() < self._paused_until

    @property
    def requests(self) -> int:
        """Return the number of slots that requests have, without those kept for receives."""
        return self.used - self._reserved

    def take(self, wanted: int) -> int:
        """Take up to `wanted` free slots and return how many."""
        taken = min(wanted, self.free)
        self.used += taken
        self.on_requests()
        return taken

    def reserve(self, wanted: int) -> int:
        """Take up to `wanted` free slots for a receive, and return how many."""
        taken = min(wanted, self.free)
        self._reserved += taken
        self.used += taken
        return taken

    def release(self, count: int = 1) -> None:
        """Release slots."""
        self.used -= count
        if count:
            self._changed()

    def release_unneeded(self, count: int, reserved: int = 0) -> None:
        """
        Release slots that were taken for a receive but not needed; there may be none.

        Of its slots, needed or not, so many were `reserved`.
        """
        self._reserved -= reserved
        self.release(count)
        self.on_requests()
        self._poll_filled_all = not count and (self._poll_filled_all or self.used >= self.limit)

    @property
    def needs_more(self) -> bool:
        """Return True if more tasks would run with more slots."""
        return self._poll_filled_all and self.used >= IN_USE_SHARE * self.limit

    def resize(self, limit: int) -> None:
        """Set the number of slots."""
        if limit != self._full:
            self._full = self._allowed = limit
            self._changed()

    def cut(self, running: int) -> bool:
        """
        Have no more slots than `running`, because the backend refused one more task.

        Return False if there are no more already, or if this is still the overload of the last cut.
        """
        self._recover()
        if running >= self._allowed:
            return False
        (first, longest), was_full = self._pauses.recover_seconds, self._allowed == self._full
        if was_full:
            self._recover_seconds = first
        elif self._has_recovered:
            self._recover_seconds = min(longest, 2 * self._recover_seconds)
        self._has_recovered = False
        self._allowed = max(1, running)
        self._moved_at = now = self._clock.monotonic()
        is_new = now - self._overloaded_at >= OVERLOAD_SECONDS
        if is_new:
            self._overloaded_at = now
        self._changed()
        return is_new

    def note_unreachable(self) -> None:
        """Leave the backend alone for a while, because it could not be reached."""
        now = self._clock.monotonic()
        if now < self._paused_until:
            return
        self._paused_until = now + Backoff(*self._pauses.rest_seconds).seconds(self._failures)
        self._failures += 1
        self._changed()

    def note_answer(self) -> None:
        """Note that the backend has answered, so that it is healthy."""
        if self._failures:
            self._failures = 0
            self._changed()

    def _changed(self) -> None:
        self._on_change()
        self.on_requests()

    def _recover(self) -> None:
        steps = int((self._clock.monotonic() - self._moved_at) / self._recover_seconds)
        if steps and self._allowed < self._full:
            gained = steps * max(1, self._full // RECOVER_SHARE)
            self._allowed = min(self._full, self._allowed + gained)
            self._has_recovered = True
            self._moved_at += steps * self._recover_seconds
