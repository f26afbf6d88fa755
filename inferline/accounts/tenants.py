"""Tenants: the limits that all keys of one share, and the providers that may see its prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from inferline.accounts.limits import UNSET, Limits
from inferline.accounts.patterns import EVERY

#: Providers' tokens that a tenant may name.
PROVIDERS_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """The owner of keys, with its limits."""

    id: str
    #: Patterns, as of the shell, of the models that it may ask for.
    models: tuple[str, ...] = EVERY
    #: Ids of the tokens whose providers alone may have its tasks; None: all may.
    providers: tuple[str, ...] | None = None
    #: The limits of all of its keys together.
    limits: Limits = UNSET


class TenantStore(Protocol):
    """The store of tenants' limits. Every method raises `Unavailable` when it does not answer."""

    async def put_tenant(self, tenant: Tenant) -> None:
        """Store a tenant's limits, replacing those before. Idempotent."""

    async def tenant(self, tenant_id: str) -> Tenant:
        """Return a tenant, strongly consistent; without limits if none are stored."""

    async def tenants(self) -> list[Tenant]:
        """Return the tenants that have stored limits, by name. Eventually consistent."""
