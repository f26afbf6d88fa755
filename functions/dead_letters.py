"""Ends the tasks whose messages nobody could handle, so that nobody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from functions._tracing import traced
from functions._wiring import Opened, aws, run, settings
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.errors import Unavailable
from inferline.maintenance.dead_letters import Fate, bury
from inferline.tasks.store import TaskStore


@asynccontextmanager
async def _store() -> AsyncIterator[TaskStore]:
    async with aws() as client:
        yield DynamoTaskStore(client, settings.tasks_table)


_opened = Opened(_store).at_start()


@traced
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Return which messages are to come again: SQS deletes the others of the batch."""
    kept = run(_bury_all(event["Records"]), context)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in kept]}


async def _bury_all(records: list[dict[str, Any]]) -> list[str]:
    again = await asyncio.gather(*(_comes_again(record["body"]) for record in records))
    return [r["messageId"] for r, comes in zip(records, again, strict=True) if comes]


async def _comes_again(text: str) -> bool:
    try:
        return await bury(await _opened(), text) is Fate.RUNNING
    except Unavailable:
        return True
