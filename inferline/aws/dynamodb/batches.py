"""Many rows of a table in as few calls as DynamoDB allows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from inferline.aws.api.errors import TransactionRefused
from inferline.aws.dynamodb.table import Item, Table, put_request
from inferline.background import Backoff
from inferline.errors import Unavailable

#: DynamoDB's limits on one call, items.
WRITE_MAX: Final = 25
READ_MAX: Final = 100
TRANSACTION_MAX: Final = 100
#: How often the items that DynamoDB left undone are sent again, and the first pause, seconds.
BATCH_TRIES_MAX: Final = 6
BATCH_PAUSES: Final = Backoff(0.05)
#: DynamoDB's code for a part of a transaction whose condition does not hold.
REFUSED: Final = "ConditionalCheckFailed"


class Batches:
    """Batched reads and writes of one table. Both raise Unavailable when it stays too busy."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def write(self, items: Sequence[Item]) -> None:
        """Put all ``items``, in any order."""
        puts = [{"PutRequest": {"Item": item}} for item in items]
        batches = [puts[i : i + WRITE_MAX] for i in range(0, len(puts), WRITE_MAX)]
        await asyncio.gather(*(self._write(batch) for batch in batches))

    async def get(self, keys: list[Item], **options: Any) -> list[Item]:
        """Read the rows at ``keys`` that exist, in any order; ``options`` are DynamoDB's."""
        batches = [keys[i : i + READ_MAX] for i in range(0, len(keys), READ_MAX)]
        results = await asyncio.gather(*(self._get(batch, options) for batch in batches))
        return [item for items in results for item in items]

    async def write_missing(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """
        Put the ``rows`` that do not exist yet; the others are left as they are.

        In transactions, because no other write of many rows has conditions.
        """
        for start in range(0, len(rows), TRANSACTION_MAX):
            await self._write_missing(list(rows[start : start + TRANSACTION_MAX]))

    async def _write_missing(self, rows: list[Mapping[str, Any]]) -> None:
        for tries in range(BATCH_TRIES_MAX):
            puts = [put_request(row, "attribute_not_exists(pk)") for row in rows]
            try:
                await self._table.transact(puts)
            except TransactionRefused as refused:
                codes = [code for code, _ in refused.reasons]
                rows = [row for row, code in zip(rows, codes, strict=True) if code != REFUSED]
                if not rows:
                    return
            else:
                return
            await asyncio.sleep(BATCH_PAUSES.seconds(tries))
        raise Unavailable("The task table is too busy to take the tasks.")

    async def _write(self, puts: list[Item]) -> None:
        name = self._table.name
        for tries in range(BATCH_TRIES_MAX):
            answer = await self._table.batch("BatchWriteItem", puts)
            puts = answer.get("UnprocessedItems", {}).get(name, [])
            if not puts:
                return
            await asyncio.sleep(BATCH_PAUSES.seconds(tries))
        raise Unavailable("The task table is too busy to take the answer.")

    async def _get(self, keys: list[Item], options: Mapping[str, Any]) -> list[Item]:
        name, items = self._table.name, list[Item]()
        for tries in range(BATCH_TRIES_MAX):
            answer = await self._table.batch("BatchGetItem", {"Keys": keys, **options})
            items += answer.get("Responses", {}).get(name, [])
            keys = answer.get("UnprocessedKeys", {}).get(name, {}).get("Keys", [])
            if not keys:
                return items
            await asyncio.sleep(BATCH_PAUSES.seconds(tries))
        raise Unavailable("The task table is too busy to be read.")
