"""The crowd: which tenants ask for a model these days, as far as this gateway sees them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from inferline.clock import Clock

#: Who has not asked for so long is not there any more, seconds.
AWAY_SECONDS: Final = 60.0
#: Of more, nobody has a large part any more.
TENANTS_MAX: Final = 256


class Crowd:
    """Those of one model."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: When each asked last, who did so longest ago first.
        self._asked_at: OrderedDict[str, float] = OrderedDict()

    def note(self, tenant: str) -> None:
        """Take note of a request."""
        self._asked_at[tenant] = self._clock.monotonic()
        self._asked_at.move_to_end(tenant)
        if len(self._asked_at) > TENANTS_MAX:
            self._asked_at.popitem(last=False)

    def __len__(self) -> int:
        """How many tenants there are."""
        since = self._clock.monotonic() - AWAY_SECONDS
        while self._asked_at and next(iter(self._asked_at.values())) < since:
            self._asked_at.popitem(last=False)
        return len(self._asked_at)
