"""Tenants on DynamoDB: one partition of the registry table."""

from __future__ import annotations

from typing import Any, Final

from inferline.accounts.limits import Limits
from inferline.accounts.tenants import Tenant
from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import call
from inferline.aws.api.items import from_item, to_item
from inferline.aws.dynamodb.registry import rows

TENANTS: Final = "TENANT"


class DynamoTenants:
    """`TenantStore` on the registry table."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._client = client
        self._table = table

    async def put_tenant(self, tenant: Tenant) -> None:
        """Keep a tenant's limits; see `TenantStore`."""
        row = {"id": tenant.id, "models": list(tenant.models), "limits": tenant.limits.told()}
        if tenant.providers is not None:
            row["providers"] = list(tenant.providers)
        await self._call("PutItem", Item=_key_of(tenant.id) | to_item(row))

    async def tenant(self, tenant_id: str) -> Tenant:
        """A tenant's limits; see `TenantStore`."""
        answer = await self._call("GetItem", Key=_key_of(tenant_id), ConsistentRead=True)
        item = answer.get("Item")
        return _tenant(from_item(item)) if item else Tenant(id=tenant_id)

    async def tenants(self) -> list[Tenant]:
        """Those of which something is kept; see `TenantStore`."""
        found = await rows(self._client, self._table, TENANTS, consistent=False)
        return [_tenant(row) for row in found]

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        request = {"TableName": self._table, **arguments}
        return await call(self._client, "dynamodb", operation, request)


def _key_of(tenant_id: str) -> dict[str, Any]:
    return to_item({"pk": TENANTS, "sk": tenant_id})


def _tenant(row: dict[str, Any]) -> Tenant:
    providers = row.get("providers")
    return Tenant(
        id=row["id"],
        models=tuple(row["models"]),
        providers=None if providers is None else tuple(providers),
        limits=Limits.of(row.get("limits", {})),
    )
