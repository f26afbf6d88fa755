"""Batches on DynamoDB: a partition of the registry table for each tenant, and one of live ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import ConditionFailed
from inferline.aws.api.items import from_item
from inferline.aws.dynamodb.table import Table, key_of
from inferline.batches.batch import Batch, LineError

#: The partition that names all batches that have not ended.
LIVE_BATCHES: Final = "BATCH"
_FIELDS: Final = tuple(field.name for field in fields(Batch))
#: How long the row of a batch is kept after its window, seconds: as long as files may be.
BATCH_SECONDS_KEPT: Final = 30 * 24 * 3600


class DynamoBatches:
    """`BatchStore` on the registry table."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._table = Table(client, table)

    def now_ms(self) -> int:
        return self._table.now_ms()

    async def create_batch(self, batch: Batch) -> None:
        # The name first: the sweep finds a batch that has one, and ignores a name without a batch.
        await self._table.put({**_live_key(batch), "tenant": batch.tenant, "ttl": _ttl(batch)})
        await self._table.put(_row(batch))

    async def save_batch(self, batch: Batch) -> Batch | None:
        written = replace(batch, version=batch.version + 1)
        try:
            await self._table.put(
                _row(written),
                condition="#version = :before",
                values={"before": batch.version},
                show_refused=True,
            )
        except ConditionFailed as refused:
            # A repeat after a lost response meets what it has written itself.
            if not refused.item or _batch(from_item(refused.item)) != written:
                return None
        if written.is_terminal:
            await self._table.delete(key_of(LIVE_BATCHES, batch.id))
        return written

    async def batch(self, tenant: str, batch_id: str) -> Batch | None:
        item = await self._table.get(key_of(_partition(tenant), batch_id))
        return _batch(from_item(item)) if item else None

    async def batches(self, tenant: str, *, after: str = "", limit: int) -> list[Batch]:
        items = self._table.query_after(_partition(tenant), after, ascending=False, page=limit)
        batches: list[Batch] = []
        async for item in items:
            batches.append(_batch(from_item(item)))
            if len(batches) == limit:
                break
        return batches

    async def live_batches(self) -> list[tuple[str, str]]:
        rows = await self._table.rows(LIVE_BATCHES)
        return [(row["tenant"], row["sk"]) for row in rows]


def _row(batch: Batch) -> dict[str, Any]:
    row = asdict(batch) | {"pk": _partition(batch.tenant), "sk": batch.id, "ttl": _ttl(batch)}
    row["errors"] = [asdict(error) for error in batch.errors]
    return {name: value for name, value in row.items() if value is not None}


def _batch(row: Mapping[str, Any]) -> Batch:
    known = {name: row[name] for name in _FIELDS if name in row}
    known["errors"] = tuple(LineError(**error) for error in row["errors"])
    return Batch(**known)


def _ttl(batch: Batch) -> int:
    return batch.expires_ms // 1000 + BATCH_SECONDS_KEPT


def _live_key(batch: Batch) -> dict[str, str]:
    return {"pk": LIVE_BATCHES, "sk": batch.id}


def _partition(tenant: str) -> str:
    return f"BATCH#{tenant}"
