"""API keys on DynamoDB: one partition of the registry table, and one for when they were used."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from inferline.accounts.caller import Role
from inferline.accounts.keys import Key
from inferline.accounts.limits import Limits
from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import ConditionFailed
from inferline.aws.api.items import from_item
from inferline.aws.dynamodb.expressions import IfAbsent
from inferline.aws.dynamodb.table import Table, key_of
from inferline.tasks.task import TIERS

KEYS: Final = "KEY"
#: A partition of its own: a process that only checks keys may write to it, and to no key.
USES: Final = "USE"
#: How long the row of a key that expired or was revoked is kept, seconds: people look for it.
KEY_SECONDS_KEPT: Final = 30 * 24 * 3600
#: How long the time of a key's last use is kept, seconds.
USE_SECONDS_KEPT: Final = 400 * 24 * 3600


class DynamoKeys:
    """`KeyStore` on the registry table."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._table = Table(client, table)

    async def put_key(self, key: Key) -> None:
        row = asdict(key) | {"pk": KEYS, "sk": key.id}
        row |= {
            "models": list(key.models),
            "tiers": list(key.tiers),
            "limits": key.limits.as_dict(),
        }
        if key.expires_ms is not None:
            row["ttl"] = key.expires_ms // 1000 + KEY_SECONDS_KEPT
        await self._table.put({name: value for name, value in row.items() if value is not None})

    async def key(self, key_id: str) -> Key | None:
        # Consistent: a key works as soon as it is printed, and no longer once it is revoked.
        item = await self._table.get(key_of(KEYS, key_id))
        return _key(from_item(item)) if item else None

    async def keys(self, *roles: Role) -> list[Key]:
        keys = map(_key, await self._table.rows(KEYS, consistent=True))
        return sorted((k for k in keys if k.role in roles), key=lambda k: (k.created_ms, k.id))

    async def replace_secret(self, key: Key, instead_of: str) -> bool:
        try:
            await self._table.update(
                key_of(KEYS, key.id),
                set={
                    "secret_sha256": key.secret_sha256,
                    "old_sha256": key.old_sha256,
                    "old_until_ms": key.old_until_ms,
                },
                # A repeat of this write, whose answer was lost, meets the new secret.
                condition="#secret_sha256 IN (:instead_of, :secret_sha256) "
                "AND attribute_not_exists(#revoked_ms)",
                values={"instead_of": instead_of},
            )
        except ConditionFailed:
            return False
        return True

    async def revoke(self, key_id: str, now_ms: int) -> Key | None:
        ttl = now_ms // 1000 + KEY_SECONDS_KEPT
        try:
            item = await self._table.update(
                key_of(KEYS, key_id),
                set={"revoked_ms": IfAbsent(now_ms), "ttl": IfAbsent(ttl)},
                condition="attribute_exists(pk)",
                returns="ALL_NEW",
            )
        except ConditionFailed:
            return None
        return _key(from_item(item))

    async def note_use(self, key_id: str, now_ms: int, seconds: float) -> None:
        with suppress(ConditionFailed):  # Another process has noted it.
            await self._table.update(
                key_of(USES, key_id),
                set={"used_ms": now_ms, "ttl": now_ms // 1000 + USE_SECONDS_KEPT},
                condition="attribute_not_exists(#used_ms) OR #used_ms <= :before",
                values={"before": now_ms - round(seconds * 1000)},
            )

    async def uses(self) -> Mapping[str, int]:
        return {row["sk"]: row["used_ms"] for row in await self._table.rows(USES)}


def _key(row: Mapping[str, Any]) -> Key:
    """Read a key's row. Rows of earlier releases have no tiers and no limits."""
    return Key(
        id=row["id"],
        role=row["role"],
        name=row["name"],
        tenant=row["tenant"],
        secret_sha256=row["secret_sha256"],
        models=tuple(row["models"]),
        tiers=tuple(row.get("tiers", TIERS)),
        limits=Limits.from_row(row.get("limits", {})),
        created_ms=row["created_ms"],
        expires_ms=row.get("expires_ms"),
        revoked_ms=row.get("revoked_ms"),
        old_sha256=row.get("old_sha256"),
        old_until_ms=row.get("old_until_ms"),
    )
