"""Batches, and the progress of shards, on each of their stores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inferline.batches.batch import Batch, LineError
from inferline.errors import LeaseLost
from inferline.files.ids import new_id
from inferline.tasks.shard import Segment, Shard
from inferline.tasks.store import AttemptOutcome, Claimed
from inferline.tasks.task import Task
from tests.support.seams import new_task, row_of


def new_batch(now_ms: int, at: int = 0) -> Batch:
    return Batch(
        id=new_id("batch_", now_ms + at),
        tenant="t",
        endpoint="/v1/chat/completions",
        input_file_id="file-x",
        completion_window="24h",
        output_seconds_kept=3600,
        created_ms=now_ms + at,
        expires_ms=now_ms + 86_400_000,
        metadata={"a": "b"},
    )


async def test_a_batch_is_read_back_by_its_tenant_alone(seams: Any) -> None:
    batch = new_batch(seams.store.now_ms())
    await seams.batches.create_batch(batch)

    assert batch == await seams.batches.batch("t", batch.id)
    assert await seams.batches.batch("other", batch.id) is None


async def test_of_two_writers_that_saw_the_same_version_one_writes(seams: Any) -> None:
    batch = new_batch(seams.store.now_ms())
    await seams.batches.create_batch(batch)
    failed = replace(batch, status="failed", errors=(LineError("empty_file", "No lines.", 1),))

    written = await seams.batches.save_batch(failed)

    assert written == replace(failed, version=1)
    assert await seams.batches.save_batch(replace(batch, status="in_progress")) is None
    assert written == await seams.batches.batch("t", batch.id)


async def test_a_batch_is_live_until_it_ends(seams: Any) -> None:
    batch = new_batch(seams.store.now_ms())
    await seams.batches.create_batch(batch)
    assert await seams.batches.live_batches() == [("t", batch.id)]

    await seams.batches.save_batch(replace(batch, status="completed"))

    assert await seams.batches.live_batches() == []


async def test_batches_are_listed_page_by_page_the_newest_first(seams: Any) -> None:
    batches = [new_batch(seams.store.now_ms(), at) for at in range(5)]
    for batch in batches:
        await seams.batches.create_batch(batch)
    newest_first = batches[::-1]

    assert newest_first[:2] == await seams.batches.batches("t", limit=2)
    assert newest_first[2:] == await seams.batches.batches("t", limit=9, after=newest_first[1].id)


async def claimed_shard(store: Any) -> Task:
    shard = Shard(batch="batch_x", number=3, lines=100)
    task = replace(new_task(store), tier="batch", shard=shard)
    await store.submit(task)
    claimed = await store.claim(task.ref, "gpu-1", 30)
    assert isinstance(claimed, Claimed)
    assert claimed.task.shard == shard
    return claimed.task


def progressed(task: Task) -> Task:
    assert task.shard is not None
    shard = replace(
        task.shard,
        done=1 << 99 | 3,
        begun=4,
        losses={"2": 1},
        completed=2,
        failed=1,
        segments=(Segment("output", 1, 0, 812), Segment("error", 1, 0, 90)),
        usage={"total_tokens": 12},
    )
    return replace(task, shard=shard)


async def test_a_shards_progress_rides_on_the_writes_of_its_owner(seams: Any) -> None:
    task = progressed(await claimed_shard(seams.store))

    await seams.store.renew(task, 30)
    row = await row_of(seams.store, task.ref)
    assert row is not None
    assert row.shard == task.shard

    await seams.store.hand_back(task, counts=False)
    claimed = await seams.store.claim(task.ref, "gpu-2", 30)
    assert claimed.task.shard == task.shard

    await seams.store.finish(claimed.task, AttemptOutcome(status=200))
    ended = await row_of(seams.store, task.ref)
    assert ended is not None
    assert ended.shard == task.shard


async def test_a_running_shard_learns_of_a_nearer_deadline_as_it_writes(seams: Any) -> None:
    store, task = seams.store, await claimed_shard(seams.store)
    nearer_ms = task.deadline_ms - 5000

    assert await store.bring_deadline_forward(task.ref, nearer_ms)
    assert not await store.bring_deadline_forward(task.ref, nearer_ms + 1)

    row = await store.renew(progressed(task), 30)
    assert row.deadline_ms == nearer_ms
    assert row.shard == progressed(task).shard


async def test_only_a_running_task_gets_a_nearer_deadline(seams: Any) -> None:
    store = seams.store
    waiting = new_task(store)
    await store.submit(waiting)
    ended = await claimed_shard(store)
    await store.finish(ended, AttemptOutcome(status=200))

    for task in (waiting, ended, new_task(store)):
        assert not await store.bring_deadline_forward(task.ref, task.deadline_ms - 1)


async def test_an_attempt_that_was_lost_commits_nothing(seams: Any) -> None:
    first = await claimed_shard(seams.store)
    await seams.store.hand_back(first, counts=False)
    second = (await seams.store.claim(first.ref, "gpu-2", 30)).task

    with pytest.raises(LeaseLost):
        await seams.store.renew(progressed(first), 30)

    row = await row_of(seams.store, first.ref)
    assert row is not None
    assert row.shard == second.shard
