"""API keys on DynamoDB: one partition of the registry table."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from inferline.aws.client import AwsClient
from inferline.aws.faults import ConditionFailed, call
from inferline.aws.items import from_item, to_item
from inferline.aws.registry import rows
from inferline.caller import Role
from inferline.keys import Key

KEYS: Final = "KEY"
#: How long the row of a key that expired or was revoked stays, seconds: people look for it.
KEY_SECONDS_KEPT: Final = 30 * 24 * 3600


class DynamoKeys:
    """`KeyStore` on the registry table."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._client = client
        self._table = table

    async def put_key(self, key: Key) -> None:
        """Keep a new key; see `KeyStore`."""
        row = asdict(key) | {"pk": KEYS, "sk": key.id, "models": list(key.models)}
        if key.expires_ms is not None:
            row["ttl"] = _ttl(key.expires_ms)
        item = to_item({name: value for name, value in row.items() if value is not None})
        await self._call("PutItem", Item=item)

    async def key(self, key_id: str) -> Key | None:
        """
        The key with that id; see `KeyStore`.

        The read is consistent: a key works as soon as it is printed, and no longer once revoked.
        """
        answer = await self._call("GetItem", Key=_key_of(key_id), ConsistentRead=True)
        return _key(from_item(answer["Item"])) if answer.get("Item") else None

    async def keys(self, role: Role) -> list[Key]:
        """All keys of a role; see `KeyStore`."""
        found = [_key(row) for row in await rows(self._client, self._table, KEYS)]
        return sorted((k for k in found if k.role == role), key=lambda k: (k.created_ms, k.id))

    async def revoke(self, key_id: str, now_ms: int) -> Key | None:
        """Revoke a key; see `KeyStore`."""
        try:
            answer = await self._call(
                "UpdateItem",
                Key=_key_of(key_id),
                ConditionExpression="attribute_exists(pk)",
                UpdateExpression=(
                    "SET revoked_ms = if_not_exists(revoked_ms, :now), "
                    "#ttl = if_not_exists(#ttl, :ttl)"
                ),
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues=to_item({":now": now_ms, ":ttl": _ttl(now_ms)}),
                ReturnValues="ALL_NEW",
            )
        except ConditionFailed:
            return None
        return _key(from_item(answer["Attributes"]))

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        request = {"TableName": self._table, **arguments}
        return await call(self._client, "dynamodb", operation, request)


def _key_of(key_id: str) -> dict[str, Any]:
    return to_item({"pk": KEYS, "sk": key_id})


def _ttl(ms: int) -> int:
    return ms // 1000 + KEY_SECONDS_KEPT


def _key(row: dict[str, Any]) -> Key:
    return Key(
        id=row["id"],
        role=row["role"],
        name=row["name"],
        tenant=row["tenant"],
        secret_sha256=row["secret_sha256"],
        models=tuple(row["models"]),
        created_ms=row["created_ms"],
        expires_ms=row.get("expires_ms"),
        revoked_ms=row.get("revoked_ms"),
    )
