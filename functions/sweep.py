"""
Each minute: ends what is overdue, makes declared models known, counts what waits and what was used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from functions._metrics import emit_sweep
from functions._tracing import traced
from functions._wiring import Opened, aws, run, settings
from inferline.aws.dynamodb.minutes import DynamoMinutes
from inferline.aws.dynamodb.registry import DynamoRegistry
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.aws.dynamodb.usage import DynamoUsage
from inferline.aws.sqs import SqsQueueMaker
from inferline.maintenance.sweep import Sweep, SweepReport
from inferline.usage.aggregation import UsageAggregator


@asynccontextmanager
async def _work() -> AsyncIterator[tuple[Sweep, UsageAggregator]]:
    async with aws() as client:
        minutes = DynamoMinutes(client, settings.registry_table)
        usage = DynamoUsage(
            client, settings.tasks_table, settings.registry_table, settings.usage_days_kept
        )
        sweep = Sweep(
            store=DynamoTaskStore(client, settings.tasks_table),
            registry=DynamoRegistry(client, settings.registry_table, settings.silent_seconds),
            minutes=minutes,
            queue_maker=SqsQueueMaker(client, settings),
            models=settings.listed_models,
        )
        yield sweep, UsageAggregator(usage=usage, minutes=minutes)


_opened = Opened(_work).at_start()


@traced
def handler(event: dict[str, Any], context: Any) -> None:
    """Sweep once, then aggregate due usage; the next run continues what takes too long."""
    emit_sweep(run(_sweep(), context))
    run(_settle(), context)


async def _sweep() -> SweepReport:
    sweep, _ = await _opened()
    return await sweep.run()


async def _settle() -> None:
    _, settlement = await _opened()
    await settlement.run()
