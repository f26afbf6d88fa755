"""
Each minute: ends what is overdue, makes declared models known, counts what waits and what was used,
and goes on with batches.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from functions._metrics import emit_sweep
from functions._tracing import traced
from functions._wiring import Opened, aws, run, settings
from inferline.aws.api.client import AwsClient
from inferline.aws.dynamodb.keys import DynamoKeys
from inferline.aws.dynamodb.minutes import DynamoMinutes
from inferline.aws.dynamodb.rate_counters import DynamoRateCounters
from inferline.aws.dynamodb.registry import DynamoRegistry
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.aws.dynamodb.tenants import DynamoTenants
from inferline.aws.dynamodb.usage import DynamoUsage
from inferline.aws.files.batches import DynamoBatches
from inferline.aws.files.files import DynamoFiles
from inferline.aws.s3 import S3Objects
from inferline.aws.sqs import SqsQueue, SqsQueueMaker
from inferline.batches.lifecycle import advance_all
from inferline.batches.parts import BatchParts
from inferline.clock import SystemClock
from inferline.maintenance.sweep import Sweep, SweepReport
from inferline.usage.aggregation import UsageAggregator
from inferline.validation.guard import Guard


class _Work(NamedTuple):
    """The sweep's parts."""

    sweep: Sweep
    aggregator: UsageAggregator
    batches: BatchParts


@asynccontextmanager
async def _work() -> AsyncIterator[_Work]:
    async with aws() as client:
        minutes = DynamoMinutes(client, settings.registry_table)
        usage = DynamoUsage(
            client, settings.tasks_table, settings.registry_table, settings.usage_days_kept
        )
        batches = _batch_parts(client)
        sweep = Sweep(
            store=batches.store,
            registry=batches.registry,
            minutes=minutes,
            queue_maker=SqsQueueMaker(client, settings),
            models=settings.listed_models,
        )
        yield _Work(sweep, UsageAggregator(usage=usage, minutes=minutes), batches)


def _batch_parts(client: AwsClient) -> BatchParts:
    registry = settings.registry_table
    return BatchParts(
        batches=DynamoBatches(client, registry),
        files=DynamoFiles(client, registry),
        objects=S3Objects(client, settings.files_bucket),
        store=DynamoTaskStore(client, settings.tasks_table),
        queue=SqsQueue(client),
        registry=DynamoRegistry(client, registry, settings.silent_seconds),
        keys=DynamoKeys(client, registry),
        tenants=DynamoTenants(client, registry),
        rate_counters=DynamoRateCounters(client, registry),
        settings=settings,
        guard=Guard.from_settings(settings),
        clock=SystemClock(),
    )


_opened = Opened(_work).at_start()


@traced
def handler(event: dict[str, Any], context: Any) -> None:
    """
    Sweep once, aggregate due usage, then go on with batches; the next run continues what takes too
    long.
    """
    emit_sweep(run(_sweep(), context))
    run(_settle(), context)
    with suppress(TimeoutError):  # Long work on a batch is begun again, or already went on.
        run(_advance(), context)


async def _sweep() -> SweepReport:
    return await (await _opened()).sweep.run()


async def _settle() -> None:
    await (await _opened()).aggregator.run()


async def _advance() -> None:
    await advance_all((await _opened()).batches)
