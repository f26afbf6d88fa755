"""A batch from its creation to its files, with a provider that works through the store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from inferline.accounts.caller import Caller
from inferline.accounts.keys import new_key
from inferline.accounts.limits import Limits
from inferline.accounts.rate_counters import LimitOwner, RateCounters
from inferline.batches.batch import Batch
from inferline.batches.lifecycle import GRACE_SECONDS, cancel
from inferline.batches.parts import BatchParts
from inferline.batches.shards import shard_ref
from inferline.errors import InvalidRequest, Unavailable
from inferline.memory.stores import memory_stores
from inferline.tasks.shard import input_key
from inferline.tasks.store import AttemptOutcome
from tests.support.batches import (
    ScriptedProvider,
    advanced,
    answered,
    created,
    jsonl,
    know,
    line,
    lines_of,
    parts_on,
    refused,
)
from tests.support.clocks import StandingClock

HOUR = 3600.0


@dataclass(slots=True)
class World:
    """Stores on a clock that tests set, and what works on them."""

    clock: StandingClock
    stores: Any
    parts: BatchParts
    provider: ScriptedProvider

    async def started(self, lines: int = 250, **given: Any) -> Batch:
        """Return a batch whose shards are queued."""
        batch = await created(self.parts, jsonl([line(n) for n in range(lines)]), **given)
        batch = await advanced(self.parts, batch)
        assert batch.status == "in_progress"
        return batch

    async def later(self, batch: Batch, seconds: float = 60.0) -> Batch:
        """Let time pass, look after the batch, and return it."""
        self.clock.now += seconds
        return await advanced(self.parts, batch)


@pytest.fixture
async def world() -> World:
    """Return a world with a model and its provider."""
    clock = StandingClock()
    stores = memory_stores(clock)
    parts = parts_on(stores, clock)
    return World(clock, stores, parts, ScriptedProvider(stores, await know(stores), answered))


async def results(world: World, batch: Batch) -> tuple[list[str], dict[str, Any]]:
    """Return the ids in the output file, and by id why the others are in the error file."""
    output, errors = [], {}
    if batch.output_file_id:
        output = [
            each["custom_id"]
            for each in await lines_of(world.parts, batch.tenant, batch.output_file_id)
        ]
    if batch.error_file_id:
        for each in await lines_of(world.parts, batch.tenant, batch.error_file_id):
            reason = each["response"]["status_code"] if each["response"] else each["error"]["code"]
            assert each["custom_id"] not in errors
            errors[each["custom_id"]] = reason
    assert len(set(output)) == len(output)
    assert len(output) + len(errors) == batch.total
    return output, errors


async def test_a_batch_is_run_and_its_results_are_collected(world: World) -> None:
    batch = await world.started(250)
    assert (batch.total, batch.shards, batch.model) == (250, 3, "test-model")

    assert await world.provider.run() == 3
    batch = await world.later(batch)

    assert (batch.status, batch.completed, batch.failed) == ("completed", 250, 0)
    assert batch.usage == {"prompt_tokens": 1250, "completion_tokens": 500, "total_tokens": 1750}
    assert await results(world, batch) == ([f"line-{n}" for n in range(250)], {})
    assert batch.error_file_id == ""
    assert await world.parts.batches.live_batches() == []


async def test_the_inputs_of_shards_are_deleted_at_the_end(world: World) -> None:
    batch = await world.started(3)
    key = input_key(batch.slug, batch.id, 0)
    assert (await world.parts.objects.get(key)).count(b"\n") == 3

    await world.provider.run()
    await world.later(batch)

    with pytest.raises(Unavailable):
        await world.parts.objects.get(key)


async def test_a_batch_whose_lines_all_fail_is_completed_without_an_output(world: World) -> None:
    batch = await world.started(9)
    world.provider.answer = refused

    await world.provider.run()
    batch = await world.later(batch)

    assert (batch.status, batch.completed, batch.failed) == ("completed", 0, 9)
    assert batch.output_file_id == ""
    assert set((await results(world, batch))[1].values()) == {400}


async def test_what_is_not_done_in_time_is_in_the_error_file_and_has_not_failed(
    world: World,
) -> None:
    batch = await world.started(250, completion_window="1h")
    await world.provider.run(1)
    claimed = await world.provider.claim()
    assert claimed is not None
    await world.provider.commit(claimed[0], 10)

    batch = await world.later(batch, HOUR + GRACE_SECONDS + 1)

    assert (batch.status, batch.completed, batch.failed) == ("expired", 110, 0)
    output, errors = await results(world, batch)
    assert (len(output), set(errors.values())) == (110, {"batch_expired"})
    assert batch.expired_ms >= batch.finalizing_ms > batch.expires_ms


async def test_a_cancelled_batch_keeps_what_is_done(world: World) -> None:
    batch = await world.started(250)
    await world.provider.run(1)
    claimed = await world.provider.claim()
    assert claimed is not None
    await world.provider.commit(claimed[0], 10)

    batch = await cancel(world.parts, batch)
    assert batch.status == "cancelling"
    assert await cancel(world.parts, batch) == batch
    batch = await world.later(batch)

    assert (batch.status, batch.completed, batch.failed) == ("cancelled", 110, 0)
    output, errors = await results(world, batch)
    assert (len(output), set(errors.values())) == (110, {"batch_cancelled"})
    assert await cancel(world.parts, batch) == batch
    assert await world.provider.claim() is None


async def test_a_running_shard_has_time_to_commit_what_is_done(world: World) -> None:
    batch = await world.started(250)
    claimed = await world.provider.claim()
    assert claimed is not None
    task = await world.provider.commit(claimed[0], 10)

    batch = await world.later(await cancel(world.parts, batch), 1)
    assert batch.status == "cancelling"
    await world.provider.commit(task, 20)
    await world.parts.store.cancel(task.ref)
    batch = await world.later(batch, 1)

    assert (batch.status, batch.completed, batch.failed) == ("cancelled", 30, 0)
    output, errors = await results(world, batch)
    assert (len(output), set(errors.values())) == (30, {"batch_cancelled"})


async def test_a_batch_is_cancelled_before_anybody_has_read_it(world: World) -> None:
    batch = await created(world.parts, jsonl([line(1)]))

    await cancel(world.parts, batch)
    batch = await world.later(batch)

    assert (batch.status, batch.total) == ("cancelled", 0)
    assert (batch.output_file_id, batch.error_file_id) == ("", "")


async def test_a_batch_that_has_ended_otherwise_is_not_cancelled(world: World) -> None:
    batch = await world.started(1)
    await world.provider.run()
    batch = await world.later(batch)

    with pytest.raises(InvalidRequest, match="Cannot cancel a batch with status 'completed'"):
        await cancel(world.parts, batch)


async def test_the_lines_of_a_shard_that_failed_count_as_failed(world: World) -> None:
    batch = await world.started(150)
    claimed = await world.provider.claim()
    assert claimed is not None
    task = await world.provider.commit(claimed[0], 30)
    error = {"message": "No.", "type": "server_error", "param": None, "code": "x", "status": 502}
    await world.parts.store.finish(task, AttemptOutcome(error=error))
    await world.provider.run()

    batch = await world.later(batch)

    assert (batch.status, batch.completed, batch.failed) == ("completed", 80, 70)
    assert set((await results(world, batch))[1].values()) == {"provider_lost"}


async def test_a_batch_that_nobody_could_read_in_time_is_expired(world: World) -> None:
    batch = await created(world.parts, jsonl([line(1)]), completion_window="1h")

    batch = await world.later(batch, HOUR + GRACE_SECONDS + 1)

    assert (batch.status, batch.total, batch.error_file_id) == ("expired", 0, "")


async def test_lines_of_shards_that_were_never_submitted_are_in_the_error_file(
    world: World,
) -> None:
    batch = await world.started(150)
    world.stores.store._tasks.pop(shard_ref(batch, 1))

    await world.provider.run()
    await cancel(world.parts, await world.later(batch, 1))
    batch = await world.later(batch)

    output, errors = await results(world, batch)
    assert (batch.status, len(output)) == ("cancelled", 100)
    assert set(errors.values()) == {"batch_cancelled"}


async def test_the_window_and_the_progress_are_counted_from_the_shards(world: World) -> None:
    batch = await world.started(250)
    await world.provider.run(1)

    batch = await world.later(batch)

    assert (batch.status, batch.completed, batch.undone) == ("in_progress", 100, 150)


async def test_the_files_are_kept_as_long_as_was_requested(world: World) -> None:
    batch = await world.started(1, output_seconds_kept=7200)
    await world.provider.run()
    batch = await world.later(batch)

    file = await world.parts.files.file(batch.tenant, batch.output_file_id)

    assert file is not None
    assert (file.purpose, file.expires_ms - file.created_ms) == ("batch_output", 7_200_000)
    assert file.created_ms == batch.finalizing_ms


async def test_a_batchs_tokens_count_against_the_day_once(world: World) -> None:
    limits = Limits(tokens_per_day=10**6)
    key, _ = new_key("client", "k", tenant="t", now_ms=1, limits=limits)
    await world.stores.keys.put_key(key)
    data = jsonl([line(n) for n in range(250)])
    batch = await created(world.parts, data, Caller(tenant="t", key_id=key.id))
    batch = await advanced(world.parts, batch)

    await world.provider.run(1)
    batch = await world.later(batch)
    await world.provider.run()
    batch = await world.later(await world.later(batch))

    assert batch.status == "completed"
    counters = RateCounters(world.stores.rate_counters, 600)
    held = await counters.reserve(LimitOwner("key", key.id), limits, 1)
    assert held.counters.day_tokens == 250 * 7 + 1
    assert LimitOwner("tenant", "t") not in world.stores.rate_counters._rows


async def test_no_line_is_lost_when_a_provider_writes_that_there_are_fewer(world: World) -> None:
    batch = await world.started(150)
    claimed = await world.provider.claim()
    assert claimed is not None
    task = await world.provider.commit(claimed[0], 10)
    assert task.shard is not None
    lie = replace(task.shard, lines=10, usage={"prompt_tokens": 2**52, "of its own": 1})
    await world.provider.finish(replace(task, shard=lie), claimed[1])
    await world.provider.run()

    batch = await world.later(batch)

    output, errors = await results(world, batch)
    assert (len(output), set(errors.values())) == (60, {"provider_lost"})
    assert (batch.completed, batch.failed) == (60, 90)
    assert batch.usage["prompt_tokens"] == 2**31 + 250
    assert "of its own" not in batch.usage
