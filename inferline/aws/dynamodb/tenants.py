"""Tenants on DynamoDB: one partition of the registry table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from inferline.accounts.limits import Limits
from inferline.accounts.tenants import Tenant
from inferline.aws.api.client import AwsClient
from inferline.aws.api.items import from_item
from inferline.aws.dynamodb.table import Table, key_of

TENANTS: Final = "TENANT"


class DynamoTenants:
    """`TenantStore` on the registry table."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._table = Table(client, table)

    async def put_tenant(self, tenant: Tenant) -> None:
        row = {"id": tenant.id, "models": list(tenant.models), "limits": tenant.limits.as_dict()}
        if tenant.providers is not None:
            row["providers"] = list(tenant.providers)
        await self._table.put({"pk": TENANTS, "sk": tenant.id, **row})

    async def tenant(self, tenant_id: str) -> Tenant:
        item = await self._table.get(key_of(TENANTS, tenant_id))
        return _tenant(from_item(item)) if item else Tenant(id=tenant_id)

    async def tenants(self) -> list[Tenant]:
        return [_tenant(row) for row in await self._table.rows(TENANTS)]


def _tenant(row: Mapping[str, Any]) -> Tenant:
    providers = row.get("providers")
    return Tenant(
        id=row["id"],
        models=tuple(row["models"]),
        providers=None if providers is None else tuple(providers),
        limits=Limits.from_row(row.get("limits", {})),
    )
