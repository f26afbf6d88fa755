"""The crowd: who asks for a model these days and how much, as far as this gateway sees it."""

from __future__ import annotations

from typing import Final

from inferline.clock import Clock
from inferline.expiring import ExpiringMap

#: Who has not asked for so long is not there any more, seconds.
AWAY_SECONDS: Final = 60.0
#: So many tenants are remembered, those that asked last.
TENANTS_MAX: Final = 256


class ActiveTenants:
    """The tenants of one model."""

    def __init__(self, clock: Clock) -> None:
        #: How many requests each had open when it asked last.
        self._open = ExpiringMap[str, int](TENANTS_MAX, clock.monotonic, AWAY_SECONDS)

    def note(self, tenant: str, tenant_open: int) -> None:
        """Take note of a request, of whose tenant so many are open with it."""
        self._open.put(tenant, tenant_open)

    def largest(self) -> int:
        """How many requests that tenant had open which had most; 0 where nobody is."""
        return max(self._open.values(), default=0)
