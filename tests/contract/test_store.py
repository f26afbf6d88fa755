"""What every task store guarantees."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import pytest

from inferline.errors import LeaseLost
from inferline.store import Claimed, Outcome, Refused, Wanted
from inferline.task import CHUNK_BYTES_MAX, Chunk, Head, State, Task, TaskRef
from tests.support.seams import Seams, new_task, row_of, until_lapsed

LEASE = 30.0


@pytest.fixture
def store(seams: Seams) -> Any:
    return seams.store


async def claimed(store: Any, task: Task, owner: str = "p1", lease: float = LEASE) -> Task:
    claim = await store.claim(task.ref, owner, lease)
    assert isinstance(claim, Claimed)
    return claim.task


async def submitted(store: Any, **given: Any) -> Task:
    task = new_task(store, **given)
    await store.submit(task)
    return task


def chunk(task: Task, seq: int, data: bytes = b"x", head: Head | None = None) -> Chunk:
    return Chunk(task.ref, task.attempt, seq, data, task.ttl, head)


async def test_a_submitted_task_is_read_as_it_was_written(store: Any) -> None:
    task = await submitted(store)

    assert task == await row_of(store, task.ref)


async def test_a_task_carries_its_trace_to_whoever_claims_it(store: Any) -> None:
    traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
    task = replace(new_task(store), traceparent=traceparent)
    await store.submit(task)

    held = await claimed(store, task)

    assert traceparent == held.traceparent


async def test_a_task_that_nobody_submitted_is_not_found_and_not_claimed(store: Any) -> None:
    ref = TaskRef("m-0", "nobody")

    assert await row_of(store, ref) is None
    assert Refused(None) == await store.claim(ref, "p1", LEASE)
    assert {} == await store.states([ref])


async def test_a_claim_starts_the_next_attempt_under_its_owners_lease(store: Any) -> None:
    task = await submitted(store)

    held = await claimed(store, task)

    assert (State.RUNNING, 1, "p1") == (held.state, held.attempt, held.owner)
    assert held.claimed_ms + LEASE * 1000 == held.lease_ms
    assert held == await row_of(store, task.ref)


async def test_of_many_claims_at_once_one_succeeds(store: Any) -> None:
    task = await submitted(store)

    claims = await asyncio.gather(*(store.claim(task.ref, f"p{i}", LEASE) for i in range(12)))

    won = [claim for claim in claims if isinstance(claim, Claimed)]
    lost = [claim.task for claim in claims if isinstance(claim, Refused)]
    assert 1 == len(won)
    assert {won[0].task.owner} == {row.owner for row in lost if row is not None}
    assert 1 == won[0].task.attempt


async def test_a_live_lease_keeps_others_out_and_a_lapsed_one_does_not(store: Any) -> None:
    task = await submitted(store)
    first = await claimed(store, task, "p1", lease=0.05)
    await until_lapsed(store, first)

    second = await claimed(store, task, "p2")

    assert 2 == second.attempt
    refused = await store.claim(task.ref, "p3", LEASE)
    assert Refused(second) == refused


async def test_who_lost_the_lease_can_write_nothing_that_counts(store: Any) -> None:
    task = await submitted(store)
    first = await claimed(store, task, "p1", lease=0.05)
    await until_lapsed(store, first)
    second = await claimed(store, task, "p2")

    for late in (
        store.renew(first, LEASE),
        store.hand_back(first, spared=False),
        store.finish(first, Outcome(status=200)),
    ):
        with pytest.raises(LeaseLost):
            await late

    assert second == await row_of(store, task.ref)


async def test_a_lapsed_lease_that_nobody_took_is_still_its_owners(store: Any) -> None:
    task = await submitted(store)
    held = await claimed(store, task, lease=0.05)
    await until_lapsed(store, held)

    await store.renew(held, LEASE)

    row = await row_of(store, task.ref)
    assert row is not None
    assert row.lease_ms > store.now_ms()


async def test_the_answer_is_read_back_to_the_byte(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    head = Head(200, "text/event-stream", "p1", 12)
    pieces = [b"data: \xf0\x9f", b"\x98\x80\n\n", bytes(range(256)) * 4]
    await store.write_chunks(
        [chunk(task, i, p, head if i == 0 else None) for i, p in enumerate(pieces)]
    )
    await store.finish(
        task, Outcome(status=200, content_type="text/event-stream", chunks=3, tail=b"\x00z")
    )

    (found,) = await store.read([Wanted(task.ref, 1, 0, 5)])

    assert pieces == [one.data for one in found.chunks]
    assert head == found.chunks[0].head
    assert (State.DONE, 200, 3, b"\x00z") == (
        found.task.state,
        found.task.status,
        found.task.chunks,
        found.task.tail,
    )


async def test_a_read_gives_what_was_asked_for_and_no_other_attempts(store: Any) -> None:
    task = await claimed(store, await submitted(store), lease=0.05)
    await store.write_chunks([chunk(task, 0, b"first attempt")])
    await until_lapsed(store, task)
    again = await claimed(store, task, "p2")
    await store.write_chunks([chunk(again, 0, b"second"), chunk(again, 2, b"late")])

    (found,) = await store.read([Wanted(task.ref, 2, 0, 3)])

    assert [(0, b"second"), (2, b"late")] == [(one.seq, one.data) for one in found.chunks]


async def test_many_tasks_are_read_in_the_order_asked(store: Any) -> None:
    tasks = [await submitted(store) for _ in range(40)]
    wanted = [Wanted(task.ref, 1, 0, 3) for task in tasks]

    found = await store.read(wanted)

    assert [task.ref for task in tasks] == [one.task.ref for one in found]


async def test_chunks_beyond_a_batch_are_all_written(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    await store.write_chunks([chunk(task, i, b"%d" % i) for i in range(60)])

    (found,) = await store.read([Wanted(task.ref, 1, 0, 60)])

    assert [b"%d" % i for i in range(60)] == [one.data for one in found.chunks]


async def test_a_chunk_of_the_largest_size_is_taken(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    data = b"\xff" * CHUNK_BYTES_MAX
    await store.write_chunks([chunk(task, 0, data)])

    (found,) = await store.read([Wanted(task.ref, 1, 0, 1)])

    assert data == found.chunks[0].data


async def test_a_finish_can_be_repeated_and_not_changed_into_another(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    outcome = Outcome(status=200, tail=b"answer")
    await store.finish(task, outcome)

    await store.finish(task, outcome)

    row = await row_of(store, task.ref)
    assert row is not None
    assert (State.DONE, b"answer") == (row.state, row.tail)
    assert not await store.cancel(task.ref)
    assert not await store.expire(task.ref)


async def test_an_outcome_with_an_error_is_a_failure(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    error = {"message": "no", "type": "server_error", "param": None, "code": "x", "status": 502}
    await store.finish(task, Outcome(error=error))

    row = await row_of(store, task.ref)

    assert row is not None
    assert (State.FAILED, error) == (row.state, row.error)


async def test_a_handed_back_task_is_free_at_once_and_the_attempt_counts(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    await store.hand_back(task, spared=False)

    again = await claimed(store, task, "p2")

    assert (2, 1) == (again.attempt, again.attempts_left)


async def test_a_spared_attempt_does_not_count(store: Any) -> None:
    task = await claimed(store, await submitted(store, attempts=1))
    await store.hand_back(task, spared=True)

    again = await claimed(store, task, "p2")

    assert (2, 0) == (again.attempt, again.attempts_left)


async def test_a_task_without_attempts_left_fails_at_the_next_claim(store: Any) -> None:
    task = await claimed(store, await submitted(store, attempts=1))
    await store.hand_back(task, spared=False)

    refused = await store.claim(task.ref, "p2", LEASE)

    assert State.FAILED is refused.task.state
    row = await row_of(store, task.ref)
    assert row is not None
    assert (State.FAILED, "backend_failed") == (row.state, row.error["code"])


async def test_a_task_past_its_deadline_expires_at_the_next_claim(store: Any) -> None:
    task = await submitted(store, seconds=-1)

    refused = await store.claim(task.ref, "p1", LEASE)

    assert State.EXPIRED is refused.task.state
    row = await row_of(store, task.ref)
    assert row is not None
    assert State.EXPIRED is row.state


@pytest.mark.parametrize("end", ["cancel", "expire"])
async def test_an_ended_task_is_claimed_by_nobody_and_lost_to_its_owner(
    store: Any, end: str
) -> None:
    task = await claimed(store, await submitted(store))

    assert await getattr(store, end)(task.ref)

    state = {"cancel": State.CANCELLED, "expire": State.EXPIRED}[end]
    assert {task.ref: (state, 1)} == await store.states([task.ref])
    with pytest.raises(LeaseLost):
        await store.renew(task, LEASE)
    with pytest.raises(LeaseLost):
        await store.finish(task, Outcome(status=200))
    refused = await store.claim(task.ref, "p2", LEASE)
    assert state is refused.task.state


async def test_only_one_of_cancel_and_finish_wins(store: Any) -> None:
    for _ in range(8):
        task = await claimed(store, await submitted(store))

        cancelled, finished = await asyncio.gather(
            store.cancel(task.ref),
            store.finish(task, Outcome(status=200)),
            return_exceptions=True,
        )

        assert cancelled is True or finished is None
        row = await row_of(store, task.ref)
        assert row is not None
        assert (State.CANCELLED if cancelled else State.DONE) is row.state
        assert isinstance(finished, LeaseLost) is bool(cancelled)


ERROR = {"message": "no", "type": "server_error", "param": None, "code": "x", "status": 502}


async def test_live_tasks_are_listed_by_deadline_and_their_models_alone(store: Any) -> None:
    model = f"live-{uuid.uuid4().hex}"
    late, early, running = [await submitted(store, model=model, seconds=s) for s in (90, 30, 60)]
    await submitted(store)
    await claimed(store, running)

    found = await store.live(early.ref.slug, 10)

    assert [(t.ref, t.deadline_ms) for t in (early, running, late)] == found
    assert [early.ref] == [ref for ref, _ in await store.live(early.ref.slug, 1)]


async def test_an_ended_task_is_no_longer_listed_as_live(store: Any) -> None:
    model = f"live-{uuid.uuid4().hex}"
    tasks = [await submitted(store, model=model) for _ in range(6)]
    await store.finish(await claimed(store, tasks[0]), Outcome(status=200))
    await store.finish(await claimed(store, tasks[1]), Outcome(error=ERROR))
    await store.cancel(tasks[2].ref)
    await store.expire(tasks[3].ref)
    await store.bury(tasks[4].ref, ERROR)

    assert [tasks[5].ref] == [ref for ref, _ in await store.live(tasks[0].ref.slug, 10)]


@pytest.mark.parametrize("handed_back", [False, True])
async def test_a_buried_task_has_failed_and_says_why(store: Any, handed_back: bool) -> None:
    task = await submitted(store)
    if handed_back:
        await store.hand_back(await claimed(store, task), spared=True)

    assert await store.bury(task.ref, ERROR)

    row = await row_of(store, task.ref)
    assert row is not None
    assert (State.FAILED, ERROR) == (row.state, row.error)
    assert not await store.bury(task.ref, ERROR)
    assert Refused(row) == await store.claim(task.ref, "p1", LEASE)


async def test_a_task_that_is_held_or_unknown_is_not_buried(store: Any) -> None:
    held = await claimed(store, await submitted(store))

    assert not await store.bury(held.ref, ERROR)
    assert not await store.bury(TaskRef("m-0", "nobody"), ERROR)

    assert held == await row_of(store, held.ref)
    await store.finish(held, Outcome(status=200))
