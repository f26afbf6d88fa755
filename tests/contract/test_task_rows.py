"""How a task's rows lie in DynamoDB: what they are paid as, and who can read them."""

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
    async with opened(aws) as found:
        yield found


async def claimed(store: DynamoTaskStore) -> Task:
    task = new_task(store)
    await store.submit(task)
    claim = await store.claim(task.ref, "p1", 30.0)
    assert isinstance(claim, Claimed)
    return claim.task


async def items_of(seams: Seams, task: Task) -> list[dict[str, Any]]:
    """The rows as they are stored."""
    client: AwsClient | None = seams.client
    assert client is not None
    query = {
        "TableName": seams.store.table,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": to_item({":pk": task.ref.pk}),
    }
    found: list[dict[str, Any]] = (await client.call("dynamodb", "Query", query))["Items"]
    return found


async def test_a_streams_second_and_its_end_are_paid_as_one_kilobyte_each(seams: Seams) -> None:
    held = await claimed(seams.store)
    await seams.store.write_chunks([Chunk(held.ref, 1, 0, SECOND, held.ttl)])
    await seams.store.finish(held, AttemptOutcome(status=200, chunks=1, tail=SECOND))

    sizes = [item_bytes(item) for item in await items_of(seams, held)]

    assert len(sizes) == 2
    assert max(sizes) <= 1024


async def test_what_an_earlier_release_wrote_as_it_was_is_read(seams: Seams) -> None:
    assert seams.client is not None
    earlier = DynamoTaskStore(seams.client, seams.store.table)
    held = await claimed(earlier)
    await earlier.write_chunks([Chunk(held.ref, 1, 0, SECOND, held.ttl)])
    await earlier.finish(held, AttemptOutcome(status=200, chunks=1, tail=SECOND))

    (found,) = await seams.store.read([Wanted(held.ref, 1, 0, 1)], consistent=True)
    row = await row_of(seams.store, held.ref)

    assert row is not None
    assert [SECOND, SECOND] == [found.chunks[0].data, row.tail]
