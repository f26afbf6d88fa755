"""The tenants that requested a model lately, as far as this gateway sees them."""

from __future__ import annotations

from typing import Final

from inferline.clock import Clock
from inferline.expiring import ExpiringMap

#: A tenant without requests for so long is no longer active, seconds.
AWAY_SECONDS: Final = 60.0
#: The tenants remembered, those with the latest requests.
TENANTS_MAX: Final = 256


class ActiveTenants:
    """The active tenants of one model."""

    def __init__(self, clock: Clock) -> None:
        #: The number of open requests at each one's last request.
        self._open = ExpiringMap[str, int](TENANTS_MAX, clock.monotonic, AWAY_SECONDS)

    def note(self, tenant: str, tenant_open: int) -> None:
        """Record a request, with its tenant's number of open requests."""
        self._open.put(tenant, tenant_open)

    def largest(self) -> int:
        """Return the largest number of requests that a tenant has open; 0 without tenants."""
        return max(self._open.values(), default=0)
