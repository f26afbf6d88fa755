"""Tenants in memory."""

from __future__ import annotations

from inferline.accounts.tenants import Tenant


class MemoryTenants:
    """A `TenantStore` in memory."""

    def __init__(self) -> None:
        self._tenants: dict[str, Tenant] = {}

    async def put_tenant(self, tenant: Tenant) -> None:
        self._tenants[tenant.id] = tenant

    async def tenant(self, tenant_id: str) -> Tenant:
        return self._tenants.get(tenant_id) or Tenant(id=tenant_id)

    async def tenants(self) -> list[Tenant]:
        return [self._tenants[name] for name in sorted(self._tenants)]
