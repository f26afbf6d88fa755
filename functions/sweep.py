"""Each minute: ends what is overdue, makes declared models known, counts what waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from functions._metrics import emit_figures
from functions._tracing import traced
from functions._wiring import Opened, aws, run, settings
from inferline.aws.dynamodb import DynamoTaskStore
from inferline.aws.minutes import DynamoMinutes
from inferline.aws.registry import DynamoRegistry
from inferline.aws.sqs import SqsQueueMaker
from inferline.sweep import Figures, Sweep


@asynccontextmanager
async def _sweep() -> AsyncIterator[Sweep]:
    async with aws() as client:
        yield Sweep(
            store=DynamoTaskStore(client, settings.tasks_table),
            registry=DynamoRegistry(client, settings.registry_table, settings.silent_seconds),
            minutes=DynamoMinutes(client, settings.registry_table),
            queue_maker=SqsQueueMaker(
                client, settings.stack, settings.lease_seconds, settings.kms_key
            ),
            models=tuple(filter(None, map(str.strip, settings.models.split(",")))),
        )


_opened = Opened(_sweep).at_start()


@traced
def handler(event: dict[str, Any], context: Any) -> None:
    """One sweep."""
    emit_figures(run(_run(), context))


async def _run() -> Figures:
    return await (await _opened()).run()
