"""The tenants that requested a model lately, as far as this gateway sees them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from inferline.clock import Clock

#: A tenant without requests for so long is no longer active, seconds.
AWAY_SECONDS: Final = 60.0
#: The tenants remembered, those with the latest requests.
TENANTS_MAX: Final = 256


class ActiveTenants:
    """The active tenants of one model."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: The time of each one's last request, and how many it had open; the oldest first.
        self._requests: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def note(self, tenant: str, tenant_open: int) -> None:
        """Record a request, with its tenant's number of open requests."""
        self._requests[tenant] = self._clock.monotonic(), tenant_open
        self._requests.move_to_end(tenant)
        if len(self._requests) > TENANTS_MAX:
            self._requests.popitem(last=False)

    def largest(self) -> int:
        """Return the largest number of requests that a tenant has open; 0 without tenants."""
        since = self._clock.monotonic() - AWAY_SECONDS
        while self._requests and next(iter(self._requests.values()))[0] < since:
            self._requests.popitem(last=False)
        return max((count for _, count in self._requests.values()), default=0)
