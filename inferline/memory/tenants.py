"""Tenants in memory, for tests: the `TenantStore` that forgets."""

from __future__ import annotations

from inferline.accounts.tenants import Tenant


class MemoryTenants:
    """A `TenantStore` in memory."""

    def __init__(self) -> None:
        self._tenants: dict[str, Tenant] = {}

    async def put_tenant(self, tenant: Tenant) -> None:
        """Keep a tenant's limits."""
        self._tenants[tenant.id] = tenant

    async def tenant(self, tenant_id: str) -> Tenant:
        """A tenant's limits."""
        return self._tenants.get(tenant_id) or Tenant(id=tenant_id)

    async def tenants(self) -> list[Tenant]:
        """Those of which something is kept, by their names."""
        return [self._tenants[name] for name in sorted(self._tenants)]
