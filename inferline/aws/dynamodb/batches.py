"""Many rows of a table in as few calls as DynamoDB allows, until each of them is done."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import call
from inferline.aws.dynamodb.task_rows import Item
from inferline.errors import Unavailable

#: DynamoDB's limits on one call, items.
WRITE_MAX: Final = 25
READ_MAX: Final = 100
#: How often what DynamoDB left undone of a batch is asked again, and the first pause, seconds.
BATCH_TRIES_MAX: Final = 6
BATCH_PAUSE_SECONDS: Final = 0.05


class Batches:
    """Reads and writes of one table. Both raise Unavailable when it stays too busy."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._client = client
        self._table = table

    async def write(self, puts: list[Item]) -> None:
        """Make all ``puts``, in any order."""
        batches = [puts[i : i + WRITE_MAX] for i in range(0, len(puts), WRITE_MAX)]
        await asyncio.gather(*(self._write(batch) for batch in batches))

    async def get(self, keys: list[Item], **projection: Any) -> list[Item]:
        """The rows at ``keys`` that exist, marshalled, in any order."""
        batches = [keys[i : i + READ_MAX] for i in range(0, len(keys), READ_MAX)]
        found = await asyncio.gather(*(self._get(batch, projection) for batch in batches))
        return [item for items in found for item in items]

    async def _write(self, puts: list[Item]) -> None:
        for tried in range(BATCH_TRIES_MAX):
            answer = await call(
                self._client, "dynamodb", "BatchWriteItem", {"RequestItems": {self._table: puts}}
            )
            puts = answer.get("UnprocessedItems", {}).get(self._table, [])
            if not puts:
                return
            await asyncio.sleep(BATCH_PAUSE_SECONDS * 2**tried)
        raise Unavailable("The task table is too busy to take the answer.")

    async def _get(self, keys: list[Item], projection: Mapping[str, Any]) -> list[Item]:
        found: list[Item] = []
        for tried in range(BATCH_TRIES_MAX):
            request = {"RequestItems": {self._table: {"Keys": keys, **projection}}}
            answer = await call(self._client, "dynamodb", "BatchGetItem", request)
            found += answer.get("Responses", {}).get(self._table, [])
            keys = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
            if not keys:
                return found
            await asyncio.sleep(BATCH_PAUSE_SECONDS * 2**tried)
        raise Unavailable("The task table is too busy to be read.")
