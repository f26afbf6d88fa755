"""Tenants: what and how much all keys of one may ask for, and whose providers may see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from inferline.accounts.limits import UNSET, Limits
from inferline.accounts.patterns import EVERY

#: How many providers' tokens a tenant may name.
PROVIDERS_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Somebody that keys belong to, and what it is limited to."""

    id: str
    #: Patterns, as of the shell, of the models that it may ask for.
    models: tuple[str, ...] = EVERY
    #: Ids of the tokens whose providers alone may have its tasks; None: all may.
    providers: tuple[str, ...] | None = None
    #: How much all of its keys together may ask for.
    limits: Limits = UNSET


class TenantStore(Protocol):
    """Where tenants' limits are kept. Every method raises `Unavailable` when it does not answer."""

    async def put_tenant(self, tenant: Tenant) -> None:
        """Keep a tenant's limits, in place of those before. Idempotent."""

    async def tenant(self, tenant_id: str) -> Tenant:
        """A tenant's limits as of now; one of which nothing is kept has none."""

    async def tenants(self) -> list[Tenant]:
        """Those of which something is kept, by their names. Eventually consistent."""
