"""The room for lines of batches: the slots that requests leave free."""

from __future__ import annotations

from bisect import bisect_right
from math import inf
from typing import Final

from inferline.clock import Clock
from inferline_provider.backend.slots import Slots

#: Time for which a slot must have been free after a request before a line may have it, seconds:
#: where one request ends the next is often near.
QUIET_SECONDS: Final = 0.1
#: Time after a request for which lines take no more than their share, seconds: others may follow.
SHARE_SECONDS: Final = 10.0


class LineRoom:
    """
    A counter of the slots that lines have. To requests these are free.

    A slot that a line leaves may go to another line at once, that of a request after a short time.
    """

    def __init__(self, slots: Slots, clock: Clock, share: float = 1.0) -> None:
        """Let lines have no more than `share` of the slots while requests run."""
        self._slots = slots
        self._clock = clock
        self._share = share
        self._lines = 0
        #: When a request last ran.
        self._requests_at = -inf
        #: Since when each free slot is free, the longest first. A request takes the newest, so that
        #: what stays has been free all the time.
        self._free_since: list[float] = []

    @property
    def lines(self) -> int:
        """Return the number of slots that lines have."""
        return self._lines

    @property
    def excess(self) -> int:
        """Return how many lines run that may no longer."""
        requests = self._slots.requests
        return max(0, self._lines - self._most(requests, is_shared=requests > 0))

    @property
    def free(self) -> int:
        """Return how many lines may begin now."""
        self.look()
        return bisect_right(self._free_since, self._clock.monotonic() - QUIET_SECONDS)

    @property
    def wait_seconds(self) -> float:
        """Return the time until one more line may begin, if nothing changes; else infinite."""
        free = self.free
        if free == len(self._free_since):
            return inf
        return self._free_since[free] + QUIET_SECONDS - self._clock.monotonic()

    def take(self) -> bool:
        """Take a slot for a line, if there is one."""
        if not self.free:
            return False
        self._free_since.pop(0)
        self._lines += 1
        return True

    def give(self) -> None:
        """Give a line's slot back."""
        self.look()
        self._lines -= 1
        if self._unused > len(self._free_since):
            self._free_since.insert(0, -inf)

    def look(self) -> None:
        """Note how many slots are free now. Called with each change."""
        if self._slots.requests:
            self._requests_at = self._clock.monotonic()
        unused = self._unused
        del self._free_since[unused:]
        now = self._clock.monotonic()
        self._free_since += [now] * (unused - len(self._free_since))

    @property
    def _unused(self) -> int:
        is_shared = self._clock.monotonic() - self._requests_at < SHARE_SECONDS
        most = min(self._slots.free, self._most(self._slots.used, is_shared=is_shared))
        return max(0, most - self._lines)

    def _most(self, used: int, *, is_shared: bool) -> int:
        """Return how many lines may run in the slots that are not used by requests."""
        limit = self._slots.limit
        most = min(limit - used, int(self._share * limit)) if is_shared else limit - used
        return max(0, most)
