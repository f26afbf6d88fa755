"""API keys on DynamoDB: a partition of the registry table, and one of when they were used."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from inferline.accounts.caller import Role
from inferline.accounts.keys import Key
from inferline.accounts.limits import Limits
from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import ConditionFailed, call
from inferline.aws.api.items import from_item, to_item
from inferline.aws.dynamodb.registry import rows
from inferline.tasks.task import TIERS

KEYS: Final = "KEY"
#: A partition of its own: who only lets in may write to it, and to no key.
USES: Final = "USE"
#: How long the row of a key that expired or was revoked stays, seconds: people look for it.
KEY_SECONDS_KEPT: Final = 30 * 24 * 3600
#: How long it is known when a key was last used, seconds.
USE_SECONDS_KEPT: Final = 400 * 24 * 3600


class DynamoKeys:
    """`KeyStore` on the registry table."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._client = client
        self._table = table

    async def put_key(self, key: Key) -> None:
        """Keep a new key; see `KeyStore`."""
        row = asdict(key) | {"pk": KEYS, "sk": key.id}
        row |= {"models": list(key.models), "tiers": list(key.tiers), "limits": key.limits.told()}
        if key.expires_ms is not None:
            row["ttl"] = key.expires_ms // 1000 + KEY_SECONDS_KEPT
        item = to_item({name: value for name, value in row.items() if value is not None})
        await self._call("PutItem", Item=item)

    async def key(self, key_id: str) -> Key | None:
        """
        The key with that id; see `KeyStore`.

        The read is consistent: a key works as soon as it is printed, and no longer once revoked.
        """
        answer = await self._call("GetItem", Key=_key_of(key_id), ConsistentRead=True)
        return _key(from_item(answer["Item"])) if answer.get("Item") else None

    async def keys(self, *roles: Role) -> list[Key]:
        """All keys of some roles; see `KeyStore`."""
        found = [_key(row) for row in await rows(self._client, self._table, KEYS)]
        return sorted((k for k in found if k.role in roles), key=lambda k: (k.created_ms, k.id))

    async def replace_secret(self, key: Key, instead_of: str) -> bool:
        """Keep the secrets of a rotated key; see `KeyStore`."""
        told = {
            "secret_sha256": key.secret_sha256,
            "old_sha256": key.old_sha256,
            "old_until_ms": key.old_until_ms,
        }
        try:
            await self._call(
                "UpdateItem",
                Key=_key_of(key.id),
                # A repeat of our own write, whose answer was lost, finds the new secret there.
                ConditionExpression=(
                    "secret_sha256 IN (:instead_of, :secret_sha256) "
                    "AND attribute_not_exists(revoked_ms)"
                ),
                UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in told),
                ExpressionAttributeValues=to_item(
                    {":instead_of": instead_of, **{f":{name}": told[name] for name in told}}
                ),
            )
        except ConditionFailed:
            return False
        return True

    async def revoke(self, key_id: str, now_ms: int) -> Key | None:
        """Revoke a key; see `KeyStore`."""
        ttl = now_ms // 1000 + KEY_SECONDS_KEPT
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
                ExpressionAttributeValues=to_item({":now": now_ms, ":ttl": ttl}),
                ReturnValues="ALL_NEW",
            )
        except ConditionFailed:
            return None
        return _key(from_item(answer["Attributes"]))

    async def note_use(self, key_id: str, now_ms: int, seconds: float) -> None:
        """Note that a key is used; see `KeyStore`."""
        values = {":now": now_ms, ":ttl": now_ms // 1000 + USE_SECONDS_KEPT}
        values[":before"] = now_ms - round(seconds * 1000)
        with suppress(ConditionFailed):  # Another process has noted it.
            await self._call(
                "UpdateItem",
                Key=to_item({"pk": USES, "sk": key_id}),
                ConditionExpression="attribute_not_exists(used_ms) OR used_ms <= :before",
                UpdateExpression="SET used_ms = :now, #ttl = :ttl",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues=to_item(values),
            )

    async def uses(self) -> Mapping[str, int]:
        """When each key was last noted to be used; see `KeyStore`."""
        found = await rows(self._client, self._table, USES, consistent=False)
        return {row["sk"]: row["used_ms"] for row in found}

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        request = {"TableName": self._table, **arguments}
        return await call(self._client, "dynamodb", operation, request)


def _key_of(key_id: str) -> dict[str, Any]:
    return to_item({"pk": KEYS, "sk": key_id})


def _key(row: dict[str, Any]) -> Key:
    """The key of a row. Those of earlier releases tell no tiers and no limits."""
    return Key(
        id=row["id"],
        role=row["role"],
        name=row["name"],
        tenant=row["tenant"],
        secret_sha256=row["secret_sha256"],
        models=tuple(row["models"]),
        tiers=tuple(row.get("tiers", TIERS)),
        limits=Limits.of(row.get("limits", {})),
        created_ms=row["created_ms"],
        expires_ms=row.get("expires_ms"),
        revoked_ms=row.get("revoked_ms"),
        old_sha256=row.get("old_sha256"),
        old_until_ms=row.get("old_until_ms"),
    )
