"""
Offers: the models of which a provider is to have tasks, for all tenants and for those that keep
theirs to some providers.
"""

from __future__ import annotations

import logging
from typing import Final

from inferline.accounts.caller import Caller
from inferline.accounts.patterns import matches
from inferline.accounts.tenants import TenantStore
from inferline.clock import Clock
from inferline.fleet.enrolment import Enrolment, Lender, OfferedModel
from inferline.gateway.catalogue import Cached
from inferline.names import dedicated_name

log = logging.getLogger(__name__)

#: How old the list of tenants may be, seconds: heartbeats read it, and not each of them.
TENANTS_SECONDS: Final = 10.0

#: By what the registry calls it.
Offer = tuple[str, OfferedModel]


class Offers:
    """Knows which tenants name which tokens."""

    def __init__(self, tenants: TenantStore, lender: Lender | None, clock: Clock) -> None:
        self._lender = lender
        self._tenants = Cached(tenants.tenants, clock, TENANTS_SECONDS)

    async def of(self, told: Enrolment, caller: Caller) -> list[Offer]:
        """
        What a provider offers: all its models, and each reserved for each tenant that names its
        token. Raises Unavailable.

        What is reserved is opened by lent credentials alone, as far as these can name it.
        """
        offers = [(offered.id, offered) for offered in told.models]
        if self._lender is None or not told.takes_reserved:
            return offers
        wanted = await self._wanted(told, caller)
        room = self._lender.room([name for name, _ in offers + wanted]) if wanted else 0
        fitting = wanted[: max(0, room - len(offers))]
        if len(fitting) < len(wanted):
            missing = len(wanted) - len(fitting)
            log.warning(
                "credentials of the provider %s can't name %d of %d reserved models",
                *(told.id, missing, len(wanted)),
            )
        return offers + fitting

    async def _wanted(self, told: Enrolment, caller: Caller) -> list[Offer]:
        return [
            (dedicated_name(offered.id, tenant.id), offered)
            for tenant in await self._tenants.settled()
            if caller.key_id in (tenant.providers or ())
            for offered in told.models
            if matches(offered.id, tenant.models)
        ]
