"""Offers: the models whose tasks a provider gets, those dedicated to some tenants included."""

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

#: How old the list of tenants may be, seconds: not each heartbeat reads it anew.
TENANTS_SECONDS: Final = 10.0

#: A model with its name in the registry.
Offer = tuple[str, OfferedModel]


class Offers:
    """Chooses models by the tokens that tenants name."""

    def __init__(self, tenants: TenantStore, lender: Lender | None, clock: Clock) -> None:
        self._lender = lender
        self._tenants = Cached(tenants.tenants, clock, TENANTS_SECONDS)

    async def of(self, enrolment: Enrolment, caller: Caller) -> list[Offer]:
        """
        Return a provider's models, and the same dedicated to each tenant that names its token.

        Dedicated models need lent credentials, and only as many fit as these can name. Raises
        Unavailable.
        """
        offers = [(offered.id, offered) for offered in enrolment.models]
        if self._lender is None or not enrolment.takes_reserved:
            return offers
        wanted = await self._wanted(enrolment, caller)
        room = self._lender.room([name for name, _ in offers + wanted]) if wanted else 0
        fitting = wanted[: max(0, room - len(offers))]
        if len(fitting) < len(wanted):
            missing = len(wanted) - len(fitting)
            log.warning(
                "credentials of the provider %s can't name %d of %d dedicated models",
                enrolment.id,
                missing,
                len(wanted),
            )
        return offers + fitting

    async def _wanted(self, enrolment: Enrolment, caller: Caller) -> list[Offer]:
        return [
            (dedicated_name(offered.id, tenant.id), offered)
            for tenant in await self._tenants.settled()
            if caller.key_id in (tenant.providers or ())
            for offered in enrolment.models
            if matches(offered.id, tenant.models)
        ]
