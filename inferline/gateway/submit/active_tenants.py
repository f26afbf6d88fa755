"""The crowd: who asks for a model these days and how much, as far as this gateway sees it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from inferline.clock import Clock

#: Who has not asked for so long is not there any more, seconds.
AWAY_SECONDS: Final = 60.0
#: So many tenants are remembered, those that asked last.
TENANTS_MAX: Final = 256


class ActiveTenants:
    """The tenants of one model."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: When each asked last, and how many requests it had open; the longest ago first.
        self._asked: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def note(self, tenant: str, tenant_open: int) -> None:
        """Take note of a request, of whose tenant so many are open with it."""
        self._asked[tenant] = self._clock.monotonic(), tenant_open
        self._asked.move_to_end(tenant)
        if len(self._asked) > TENANTS_MAX:
            self._asked.popitem(last=False)

    def largest(self) -> int:
        """How many requests that tenant had open which had most; 0 where nobody is."""
        since = self._clock.monotonic() - AWAY_SECONDS
        while self._asked and next(iter(self._asked.values()))[0] < since:
            self._asked.popitem(last=False)
        return max((count for _, count in self._asked.values()), default=0)
