"""A task's rows in DynamoDB: the units that they cost, and the releases that can read them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bench.harness.counting import item_bytes
from inferline.aws.api.client import AwsClient
from inferline.aws.api.items import to_item
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.tasks.store import AttemptOutcome, Claimed, Wanted
from inferline.tasks.task import Chunk, Task
from tests.support.seams import Seams, new_task, opened, row_of

EVENT = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'
#: What a stream of 25 events a second gathers in one, far more than a kilobyte.
SECOND = EVENT * 25


@pytest.fixture
async def seams(aws: str) -> AsyncIterator[Seams]:
    async with opened(aws) as ports:
        yield ports


async def claimed(store: DynamoTaskStore) -> Task:
    task = new_task(store)
    await store.submit(task)
    claim = await store.claim(task.ref, "p1", 30.0)
    assert isinstance(claim, Claimed)
    return claim.task


async def items_of(seams: Seams, task: Task) -> list[dict[str, Any]]:
    """Read the task's rows as they are stored."""
    client: AwsClient | None = seams.client
    assert client is not None
    query = {
        "TableName": seams.store.table,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": to_item({":pk": task.ref.pk}),
    }
    items: list[dict[str, Any]] = (await client.call("dynamodb", "Query", query))["Items"]
    return items


async def test_a_streams_second_and_its_end_are_paid_as_one_kilobyte_each(seams: Seams) -> None:
    running = await claimed(seams.store)
    await seams.store.write_chunks([Chunk(running.ref, 1, 0, SECOND, running.ttl)])
    await seams.store.finish(running, AttemptOutcome(status=200, chunks=1, tail=SECOND))

    sizes = [item_bytes(item) for item in await items_of(seams, running)]

    assert len(sizes) == 2
    assert max(sizes) <= 1024


async def test_what_an_earlier_release_wrote_as_it_was_is_read(seams: Seams) -> None:
    assert seams.client is not None
    earlier = DynamoTaskStore(seams.client, seams.store.table)
    running = await claimed(earlier)
    await earlier.write_chunks([Chunk(running.ref, 1, 0, SECOND, running.ttl)])
    await earlier.finish(running, AttemptOutcome(status=200, chunks=1, tail=SECOND))

    (result,) = await seams.store.read([Wanted(running.ref, 1, 0, 1)], consistent=True)
    row = await row_of(seams.store, running.ref)

    assert row is not None
    assert [SECOND, SECOND] == [result.chunks[0].data, row.tail]
