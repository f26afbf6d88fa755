"""The seams on everything that implements them: memory, moto and MiniStack."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from inferline.aws.api.client import AwsClient
from inferline.aws.dynamodb.keys import DynamoKeys
from inferline.aws.dynamodb.minutes import DynamoMinutes
from inferline.aws.dynamodb.rate_counters import DynamoMeters
from inferline.aws.dynamodb.registry import DynamoRegistry
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.aws.dynamodb.tenants import DynamoTenants
from inferline.aws.dynamodb.usage import DynamoUsage
from inferline.aws.provision import provision
from inferline.aws.s3 import S3Bodies
from inferline.aws.sqs import SqsQueue, SqsQueueMaker
from inferline.memory.keys import MemoryKeys
from inferline.memory.rate_counters import MemoryMeters
from inferline.memory.registry import MemoryRegistry
from inferline.memory.tasks import MemoryBodies, MemoryMinutes, MemoryQueue, MemoryStore
from inferline.memory.tenants import MemoryTenants
from inferline.memory.usage import MemoryUsage
from inferline.names import slug
from inferline.settings import Settings
from inferline.tasks.task import Task, TaskRef


@dataclass(frozen=True, slots=True)
class Seams:
    """One implementation of every seam, on tables of its own."""

    store: Any
    queue: Any
    queue_maker: Any
    bodies: Any
    registry: Any
    keys: Any
    tenants: Any
    minutes: Any
    usage: Any
    meters: Any
    client: AwsClient | None = None


@asynccontextmanager
async def opened(endpoint_url: str | None) -> AsyncIterator[Seams]:
    """The seams on an emulator, or in memory when there is none."""
    if endpoint_url is None:
        queue, store = MemoryQueue(), MemoryStore()
        yield Seams(
            store,
            queue,
            queue,
            MemoryBodies(),
            MemoryRegistry(),
            MemoryKeys(),
            MemoryTenants(),
            MemoryMinutes(),
            MemoryUsage(store),
            MemoryMeters(),
        )
        return
    mark = uuid.uuid4().hex[:8]
    settings = Settings(
        stack=f"t{mark}",
        tasks_table=f"tasks-{mark}",
        registry_table=f"registry-{mark}",
        bodies_bucket=f"bodies-{mark}",
        endpoint_url=endpoint_url,
    )
    async with AwsClient(settings.region, endpoint_url) as client:
        await provision(client, settings)
        yield Seams(
            DynamoTaskStore(client, settings.tasks_table, packs=True),
            SqsQueue(client),
            SqsQueueMaker(client, settings),
            S3Bodies(client, settings.bodies_bucket),
            DynamoRegistry(client, settings.registry_table, settings.silent_seconds),
            DynamoKeys(client, settings.registry_table),
            DynamoTenants(client, settings.registry_table),
            DynamoMinutes(client, settings.registry_table),
            DynamoUsage(client, settings.tasks_table, settings.registry_table, days_kept=400),
            DynamoMeters(client, settings.registry_table),
            client,
        )


def new_task(store: Any, *, seconds: float = 60.0, model: str = "m", attempts: int = 3) -> Task:
    """A task that nobody knows yet, with its deadline ``seconds`` from now."""
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
    """The row as a reader comes to see it."""
    from inferline.tasks.store import Wanted

    (found,) = await store.read([Wanted(ref)])
    row: Task | None = found.task
    return row


async def until_lapsed(store: Any, task: Task) -> None:
    """Return when ``task``'s lease has ended by the store's clock."""
    await asyncio.sleep(max(0, task.lease_ms + 50 - store.now_ms()) / 1000)
    assert store.now_ms() > task.lease_ms
