"""The ports on everything that implements them: memory, bench's DynamoDB, moto and MiniStack."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from bench.growth.queue import Queues
from bench.sim.tables import Tables
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
from inferline.aws.files.uploads import DynamoUploads
from inferline.aws.provision import provision
from inferline.aws.s3 import S3Objects
from inferline.aws.sqs import SqsQueue, SqsQueueMaker
from inferline.memory.objects import MemoryObjects
from inferline.memory.stores import memory_stores
from inferline.names import slug
from inferline.settings import Settings
from inferline.tasks.store import Wanted
from inferline.tasks.task import Task, TaskRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """One implementation of every port, on tables of its own."""

    store: Any
    queue: Any
    queue_maker: Any
    bodies: Any
    objects: Any
    files: Any
    uploads: Any
    batches: Any
    registry: Any
    keys: Any
    tenants: Any
    minutes: Any
    usage: Any
    rate_counters: Any
    client: AwsClient | None = None


def in_memory() -> Seams:
    """Make the ports in memory."""
    stores = memory_stores()
    return Seams(
        store=stores.store,
        queue=stores.queue,
        queue_maker=stores.queue_maker,
        bodies=stores.bodies,
        objects=stores.objects,
        files=stores.files,
        uploads=stores.uploads,
        batches=stores.batches,
        registry=stores.registry,
        keys=stores.keys,
        tenants=stores.tenants,
        minutes=stores.minutes,
        usage=stores.usage,
        rate_counters=stores.rate_counters,
    )


def on_bench_tables(tables: Tables | None = None) -> Seams:
    """Make the ports of the AWS adapter, on the benchmark's DynamoDB and SQS."""
    tables = tables or Tables()
    client, queues = cast(AwsClient, tables), Queues(tables.tallies)
    settings = Settings(tasks_table_override="tasks", registry_table_override="registry")
    return _on_tables(client, settings, queues, queues, MemoryObjects())


def _on_tables(
    client: AwsClient, settings: Settings, queue: Any, queue_maker: Any, bodies: Any
) -> Seams:
    registry = settings.registry_table
    return Seams(
        store=DynamoTaskStore(client, settings.tasks_table, packs=True),
        queue=queue,
        queue_maker=queue_maker,
        bodies=bodies,
        objects=bodies,
        files=DynamoFiles(client, registry),
        uploads=DynamoUploads(client, registry),
        batches=DynamoBatches(client, registry),
        registry=DynamoRegistry(client, registry, settings.silent_seconds),
        keys=DynamoKeys(client, registry),
        tenants=DynamoTenants(client, registry),
        minutes=DynamoMinutes(client, registry),
        usage=DynamoUsage(client, settings.tasks_table, registry, days_kept=400),
        rate_counters=DynamoRateCounters(client, registry),
        client=client,
    )


@asynccontextmanager
async def opened(endpoint_url: str | None) -> AsyncIterator[Seams]:
    """Open the ports on an emulator, or in memory when there is none."""
    if endpoint_url is None:
        yield in_memory()
        return
    run = uuid.uuid4().hex[:8]
    settings = Settings(
        stack=f"t{run}",
        tasks_table_override=f"tasks-{run}",
        registry_table_override=f"registry-{run}",
        bodies_bucket_override=f"bodies-{run}",
        files_bucket_override=f"files-{run}",
        endpoint_url=endpoint_url,
    )
    async with AwsClient(settings.region, endpoint_url) as client:
        await provision(client, settings)
        queue, maker = SqsQueue(client), SqsQueueMaker(client, settings)
        bodies = S3Objects(client, settings.files_bucket)
        yield _on_tables(client, settings, queue, maker, bodies)


def new_task(store: Any, *, seconds: float = 60.0, model: str = "m", attempts: int = 3) -> Task:
    """Make a task that no store has yet, with its deadline ``seconds`` from now."""
    now = store.now_ms()
    return Task(
        ref=TaskRef(slug(model), uuid.uuid4().hex),
        model=model,
        tier="default",
        tenant="t",
        path="/v1/chat/completions",
        body_sha256="0" * 64,
        created_ms=now,
        deadline_ms=now + int(seconds * 1000),
        attempt_limit=attempts,
        ttl=now // 1000 + 3600,
    )


async def row_of(store: Any, ref: TaskRef) -> Task | None:
    """Read a task's row as its readers do."""
    (read,) = await store.read([Wanted(ref)])
    row: Task | None = read.task
    return row


async def until_lapsed(store: Any, task: Task) -> None:
    """Wait until ``task``'s lease has ended by the store's clock."""
    await asyncio.sleep(max(0, task.lease_ms + 50 - store.now_ms()) / 1000)
    assert store.now_ms() > task.lease_ms
