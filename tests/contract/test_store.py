"""The contract of every task store."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import pytest

from inferline.errors import LeaseLost
from inferline.tasks.store import AttemptOutcome, Binding, Claimed, Refused, TaskStatus, Wanted
from inferline.tasks.task import CHUNK_BYTES_MAX, AnswerHead, Chunk, State, Task, TaskRef
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


def chunk(task: Task, seq: int, data: bytes = b"x", head: AnswerHead | None = None) -> Chunk:
    return Chunk(task.ref, task.attempt, seq, data, task.ttl, head)


async def test_many_tasks_are_submitted_at_once_and_those_that_exist_stay(seams: Seams) -> None:
    tasks = [new_task(seams.store) for _ in range(130)]
    for task in (tasks[0], tasks[120]):
        await seams.store.submit(task)
        await seams.store.claim(task.ref, "p1", 30)

    for _ in range(2):
        await seams.store.submit_all(tasks)

    rows = [await row_of(seams.store, task.ref) for task in tasks]
    running = [at for at, row in enumerate(rows) if row and row.state is State.RUNNING]
    assert (len([row for row in rows if row]), running) == (130, [0, 120])


async def test_a_submitted_task_is_read_as_it_was_written(store: Any) -> None:
    task = await submitted(store)

    assert task == await row_of(store, task.ref)


async def test_a_task_carries_its_trace_to_whoever_claims_it(store: Any) -> None:
    traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
    task = replace(new_task(store), traceparent=traceparent)
    await store.submit(task)

    running = await claimed(store, task)

    assert traceparent == running.traceparent


async def test_a_task_that_nobody_submitted_is_not_found_and_not_claimed(store: Any) -> None:
    ref = TaskRef("m-0", "nobody")

    assert await row_of(store, ref) is None
    assert Refused(None) == await store.claim(ref, "p1", LEASE)
    assert {} == await store.statuses([ref])


async def test_what_is_past_its_time_is_gone_though_nobody_has_deleted_it(store: Any) -> None:
    task = replace(new_task(store), ttl=store.now_ms() // 1000 - 1)
    await store.submit(task)
    await store.write_chunks([Chunk(task.ref, 1, 0, b"x", task.ttl)])

    (result,) = await store.read([Wanted(task.ref, 1, 0, 1)])

    assert (None, ()) == (result.task, result.chunks)
    assert {} == await store.statuses([task.ref])


async def test_a_claim_starts_the_next_attempt_under_its_owners_lease(store: Any) -> None:
    task = await submitted(store)

    running = await claimed(store, task)

    assert (State.RUNNING, 1, "p1") == (running.state, running.attempt, running.owner)
    assert running.claimed_ms + LEASE * 1000 == running.lease_ms
    assert running == await row_of(store, task.ref)


async def test_of_many_claims_at_once_one_succeeds(store: Any) -> None:
    task = await submitted(store)

    claims = await asyncio.gather(*(store.claim(task.ref, f"p{i}", LEASE) for i in range(12)))

    won = [claim for claim in claims if isinstance(claim, Claimed)]
    lost = [claim.task for claim in claims if isinstance(claim, Refused)]
    assert 1 == len(won)
    assert {won[0].task.owner} == {row.owner for row in lost if row is not None}
    assert 1 == won[0].task.attempt


#: Two processes may go by one name.
BY_ANY_NAME = pytest.mark.parametrize("other", ["p1", "p2"])


@BY_ANY_NAME
async def test_a_live_lease_keeps_others_out_and_a_lapsed_one_does_not(
    store: Any, other: str
) -> None:
    task = await submitted(store)
    first = await claimed(store, task, "p1", lease=0.05)
    await until_lapsed(store, first)

    second = await claimed(store, task, other)

    assert 2 == second.attempt
    refused = await store.claim(task.ref, other, LEASE)
    assert Refused(second) == refused


@BY_ANY_NAME
async def test_who_lost_the_lease_can_write_nothing_that_counts(store: Any, other: str) -> None:
    task = await submitted(store)
    first = await claimed(store, task, "p1", lease=0.05)
    await until_lapsed(store, first)
    second = await claimed(store, task, other)

    for late in (
        store.renew(first, LEASE),
        store.hand_back(first, counts=True),
        store.finish(first, AttemptOutcome(status=200)),
    ):
        with pytest.raises(LeaseLost):
            await late

    assert second == await row_of(store, task.ref)


async def test_a_lapsed_lease_that_nobody_took_is_still_its_owners(store: Any) -> None:
    task = await submitted(store)
    running = await claimed(store, task, lease=0.05)
    await until_lapsed(store, running)

    await store.renew(running, LEASE)

    row = await row_of(store, task.ref)
    assert row is not None
    assert row.lease_ms > store.now_ms()


async def test_the_answer_is_read_back_to_the_byte(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    head = AnswerHead(200, "text/event-stream", "p1", 12)
    pieces = [b"data: \xf0\x9f", b"\x98\x80\n\n", bytes(range(256)) * 4]
    await store.write_chunks(
        [chunk(task, i, p, head if i == 0 else None) for i, p in enumerate(pieces)]
    )
    await store.finish(
        task, AttemptOutcome(status=200, content_type="text/event-stream", chunks=3, tail=b"\x00z")
    )

    (result,) = await store.read([Wanted(task.ref, 1, 0, 5)])

    assert pieces == [piece.data for piece in result.chunks]
    assert head == result.chunks[0].head
    assert (State.DONE, 200, 3, b"\x00z") == (
        result.task.state,
        result.task.status,
        result.task.chunks,
        result.task.tail,
    )


async def test_what_the_backend_told_of_its_tokens_is_read_back(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    assert {} == task.usage

    await store.finish(
        task, AttemptOutcome(status=200, usage={"prompt_tokens": 7, "output_tokens": 0})
    )

    (result,) = await store.read([Wanted(task.ref)])
    assert {"prompt_tokens": 7, "output_tokens": 0} == result.task.usage


async def test_a_read_gives_what_was_asked_for_and_no_other_attempts(store: Any) -> None:
    task = await claimed(store, await submitted(store), lease=0.05)
    await store.write_chunks([chunk(task, 0, b"first attempt")])
    await until_lapsed(store, task)
    again = await claimed(store, task, "p2")
    await store.write_chunks([chunk(again, 0, b"second"), chunk(again, 2, b"late")])

    (result,) = await store.read([Wanted(task.ref, 2, 0, 3)])

    assert [(0, b"second"), (2, b"late")] == [(piece.seq, piece.data) for piece in result.chunks]


async def test_many_tasks_are_read_in_the_order_asked(store: Any) -> None:
    tasks = [await submitted(store) for _ in range(40)]
    wanted = [Wanted(task.ref, 1, 0, 3) for task in tasks]

    results = await store.read(wanted)

    assert [task.ref for task in tasks] == [result.task.ref for result in results]


async def test_chunks_beyond_a_batch_are_all_written(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    await store.write_chunks([chunk(task, i, b"%d" % i) for i in range(60)])

    (result,) = await store.read([Wanted(task.ref, 1, 0, 60)])

    assert [b"%d" % i for i in range(60)] == [piece.data for piece in result.chunks]


async def test_who_holds_two_attempts_of_one_task_may_ask_for_both(store: Any) -> None:
    task = await claimed(store, await submitted(store))

    assert {task.ref: TaskStatus(State.RUNNING, 1, 0)} == await store.statuses([task.ref, task.ref])


async def test_two_readers_of_one_task_may_look_in_one_read(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    await store.write_chunks([chunk(task, 0, b"one"), chunk(task, 1, b"two")])

    first = Wanted(task.ref, 1, 0, 2)
    results = await store.read([first, Wanted(task.ref, 1, 1, 2), first])

    assert [[b"one", b"two"], [b"two"], [b"one", b"two"]] == [
        [piece.data for piece in result.chunks] for result in results
    ]
    assert {task.ref} == {result.task.ref for result in results}


async def test_a_chunk_of_the_largest_size_is_taken(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    data = b"\xff" * CHUNK_BYTES_MAX
    await store.write_chunks([chunk(task, 0, data)])

    (result,) = await store.read([Wanted(task.ref, 1, 0, 1)])

    assert data == result.chunks[0].data


async def test_a_finish_can_be_repeated_and_not_changed_into_another(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    outcome = AttemptOutcome(status=200, tail=b"answer")
    await store.finish(task, outcome)

    await store.finish(task, outcome)

    row = await row_of(store, task.ref)
    assert row is not None
    assert (State.DONE, b"answer") == (row.state, row.tail)
    assert not await store.cancel(task.ref)
    assert not await store.expire(task.ref)


async def test_a_finish_can_be_repeated_after_a_stale_owner_has_tried(store: Any) -> None:
    task = await submitted(store)
    first = await claimed(store, task, "p1", lease=0.05)
    await until_lapsed(store, first)
    second = await claimed(store, task, "p2")
    outcome = AttemptOutcome(status=200, tail=b"answer")
    await store.finish(second, outcome)
    with pytest.raises(LeaseLost):
        await store.finish(first, AttemptOutcome(status=200, tail=b"another"))

    await store.finish(second, outcome)

    row = await row_of(store, task.ref)
    assert row is not None
    assert b"answer" == row.tail


async def test_an_outcome_with_an_error_is_a_failure(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    error = {"message": "no", "type": "server_error", "param": None, "code": "x", "status": 502}
    await store.finish(task, AttemptOutcome(error=error))

    row = await row_of(store, task.ref)

    assert row is not None
    assert (State.FAILED, error) == (row.state, row.error)


async def test_a_handed_back_task_is_free_at_once_and_the_attempt_counts(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    await store.hand_back(task, counts=True)

    again = await claimed(store, task, "p2")

    assert (2, 1) == (again.attempt, again.attempts_left)


async def test_a_spared_attempt_does_not_count(store: Any) -> None:
    task = await claimed(store, await submitted(store, attempts=1))
    await store.hand_back(task, counts=False)

    again = await claimed(store, task, "p2")

    assert (2, 0) == (again.attempt, again.attempts_left)


async def test_a_claim_shows_whether_the_lease_before_it_lapsed(store: Any) -> None:
    task = await submitted(store)
    lapsing = await store.claim(task.ref, "p1", -1)
    after_a_lapse = await claimed(store, task, "p2")
    await store.hand_back(after_a_lapse, counts=False)
    after_a_hand_back = await claimed(store, task, "p3")

    assert 0 == lapsing.task.lapsed_ms
    assert lapsing.task.lease_ms == after_a_lapse.lapsed_ms
    assert 0 == after_a_hand_back.lapsed_ms


async def test_who_can_not_go_on_with_an_answer_is_known_to_the_next(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    await store.hand_back(task, counts=False, unfit=frozenset({"p1", "p0"}))
    second = await claimed(store, task, "p2")
    await store.hand_back(second, counts=False)

    third = await claimed(store, task, "p3")

    assert ("p0 p1", "p0 p1") == (second.unfit, third.unfit)


async def test_a_failure_keeps_what_its_backend_said_of_asking_again(store: Any) -> None:
    task = await claimed(store, await submitted(store))
    headers = {"retry-after": "7", "x-should-retry": "false"}
    await store.finish(task, AttemptOutcome(status=429, headers=headers))

    row = await row_of(store, task.ref)

    assert row is not None
    assert headers == row.headers


async def test_a_task_without_attempts_left_fails_at_the_next_claim(store: Any) -> None:
    task = await claimed(store, await submitted(store, attempts=1))
    await store.hand_back(task, counts=True)

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
    assert {task.ref: TaskStatus(state, 1, 0)} == await store.statuses([task.ref])
    with pytest.raises(LeaseLost):
        await store.renew(task, LEASE)
    with pytest.raises(LeaseLost):
        await store.finish(task, AttemptOutcome(status=200))
    refused = await store.claim(task.ref, "p2", LEASE)
    assert state is refused.task.state


async def test_only_one_of_cancel_and_finish_wins(store: Any) -> None:
    for _ in range(8):
        task = await claimed(store, await submitted(store))

        cancelled, finished = await asyncio.gather(
            store.cancel(task.ref),
            store.finish(task, AttemptOutcome(status=200)),
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

    entries = await store.live(early.ref.slug, 10)

    assert [(t.ref, t.deadline_ms) for t in (early, running, late)] == entries
    assert [early.ref] == [ref for ref, _ in await store.live(early.ref.slug, 1)]


async def test_live_tasks_of_all_models_are_listed_by_slug_and_deadline(store: Any) -> None:
    own, other = f"live-{uuid.uuid4().hex}", f"live-{uuid.uuid4().hex}"
    late, early = [await submitted(store, model=own, seconds=s) for s in (90, 30)]
    alone, ended = [await submitted(store, model=other) for _ in range(2)]
    await store.cancel(ended.ref)

    by_slug = await store.live_by_slug(100_000)

    assert [(t.ref, t.deadline_ms) for t in (early, late)] == by_slug[early.ref.slug]
    assert [(alone.ref, alone.deadline_ms)] == by_slug[alone.ref.slug]


async def test_more_live_tasks_than_asked_for_are_not_listed_together(store: Any) -> None:
    for _ in range(3):
        await submitted(store)

    assert await store.live_by_slug(2) is None


async def test_an_ended_task_is_no_longer_listed_as_live(store: Any) -> None:
    model = f"live-{uuid.uuid4().hex}"
    tasks = [await submitted(store, model=model) for _ in range(6)]
    await store.finish(await claimed(store, tasks[0]), AttemptOutcome(status=200))
    await store.finish(await claimed(store, tasks[1]), AttemptOutcome(error=ERROR))
    await store.cancel(tasks[2].ref)
    await store.expire(tasks[3].ref)
    await store.bury(tasks[4].ref, ERROR)

    assert [tasks[5].ref] == [ref for ref, _ in await store.live(tasks[0].ref.slug, 10)]


@pytest.mark.parametrize("handed_back", [False, True])
async def test_a_buried_task_has_failed_and_says_why(store: Any, handed_back: bool) -> None:
    task = await submitted(store)
    if handed_back:
        await store.hand_back(await claimed(store, task), counts=False)

    assert await store.bury(task.ref, ERROR)

    row = await row_of(store, task.ref)
    assert row is not None
    assert (State.FAILED, ERROR) == (row.state, row.error)
    assert not await store.bury(task.ref, ERROR)
    assert Refused(row) == await store.claim(task.ref, "p1", LEASE)


async def test_a_task_that_is_held_or_unknown_is_not_buried(store: Any) -> None:
    running = await claimed(store, await submitted(store))

    assert not await store.bury(running.ref, ERROR)
    assert not await store.bury(TaskRef("m-0", "nobody"), ERROR)

    assert running == await row_of(store, running.ref)
    await store.finish(running, AttemptOutcome(status=200))


async def read_by(store: Any, reader: str, seconds: float = 20.0) -> Task:
    """Claim a task that has a reader lease of ``seconds``."""
    task = new_task(store)
    until = store.now_ms() + int(seconds * 1000)
    await store.submit(replace(task, reader=reader, reader_ms=until))
    return await claimed(store, task)


async def test_a_reader_lease_is_told_and_renewed_by_its_reader(store: Any) -> None:
    task = await read_by(store, "r1")
    assert task == await row_of(store, task.ref)  # A store may remember it, but not for good.

    assert await store.renew_reader_lease(task, "r1", 40.0)
    assert await store.renew_reader_lease(task, "r1", 60.0)

    row = await row_of(store, task.ref)
    assert row is not None
    assert ("r1", State.RUNNING, "p1") == (row.reader, row.state, row.owner)
    assert task.reader_ms + 30_000 < row.reader_ms
    assert {task.ref: TaskStatus(State.RUNNING, 1, row.reader_ms)} == await store.statuses(
        [task.ref]
    )


async def test_of_many_that_would_read_instead_one_does(store: Any) -> None:
    task = await read_by(store, "r1")

    took = await asyncio.gather(*(store.renew_reader_lease(task, f"n{i}", 30.0) for i in range(8)))

    row = await row_of(store, task.ref)
    assert row is not None
    assert [row.reader] == [f"n{i}" for i, won in enumerate(took) if won]
    assert not await store.renew_reader_lease(task, "r1", 30.0)


async def test_nobody_reads_what_has_ended_or_never_was(store: Any) -> None:
    task = await read_by(store, "r1")
    await store.finish(task, AttemptOutcome(status=200))

    assert not await store.renew_reader_lease(task, "r1", 20.0)
    assert not await store.renew_reader_lease(
        replace(task, ref=TaskRef("m-0", "nobody")), "r1", 20.0
    )


async def test_a_reader_lease_does_not_touch_the_owners(store: Any) -> None:
    task = await read_by(store, "r1")
    assert await store.renew_reader_lease(task, "r2", 20.0)

    await store.renew(task, LEASE)
    await store.finish(task, AttemptOutcome(status=200))

    row = await row_of(store, task.ref)
    assert row is not None
    assert State.DONE is row.state


async def test_who_reads_no_more_can_not_cancel_for_who_does(store: Any) -> None:
    task = await read_by(store, "r1")
    assert await store.renew_reader_lease(task, "r2", 20.0)

    assert not await store.cancel(task.ref, reader="r1")
    assert await store.cancel(task.ref, reader="r2")


async def test_a_task_is_cancelled_as_unread_only_when_it_is(store: Any) -> None:
    unread, read = await read_by(store, "r1", seconds=-5.0), await read_by(store, "r1")
    unknown = await claimed(store, await submitted(store))
    now = store.now_ms()

    assert [True, False, False, False] == [
        await store.cancel_unread(ref, now)
        for ref in (unread.ref, read.ref, unknown.ref, unread.ref)
    ]

    states = await store.statuses([unread.ref, read.ref])
    assert [State.CANCELLED, State.RUNNING] == [states[r].state for r in (unread.ref, read.ref)]


async def test_a_key_is_bound_to_one_task_however_often_it_is_used(store: Any) -> None:
    tasks = [new_task(store) for _ in range(6)]

    bindings = await asyncio.gather(*(store.submit_once(t, "k", "asked", "") for t in tasks))

    [first] = [task for task, binding in zip(tasks, bindings, strict=True) if binding is None]
    others = [binding for binding in bindings if binding is not None]
    assert {Binding(first.ref.id, "asked")} == set(others)
    assert others[0] == await store.binding(first.ref.slug, "k")
    rows = [await row_of(store, task.ref) for task in tasks]
    assert [first] == [row for row in rows if row is not None]


async def test_a_bound_task_can_be_submitted_again_after_a_lost_answer(store: Any) -> None:
    task = new_task(store)

    assert [None, None] == [await store.submit_once(task, "k2", "asked", "") for _ in range(2)]


async def test_a_binding_gives_way_to_who_names_its_task_and_when_its_time_is_over(
    store: Any,
) -> None:
    first, second, third = (new_task(store) for _ in range(3))
    over = replace(first, ttl=store.now_ms() // 1000 - 2)
    assert await store.binding(over.ref.slug, "k3") is None
    assert await store.submit_once(over, "k3", "asked", "") is None
    assert await store.binding(over.ref.slug, "k3") is None

    assert await store.submit_once(second, "k3", "asked", "") is None
    assert Binding(second.ref.id, "asked") == await store.submit_once(third, "k3", "x", "other")
    assert await store.submit_once(third, "k3", "asked", second.ref.id) is None

    assert Binding(third.ref.id, "asked") == await store.submit_once(first, "k3", "asked", "")


async def test_another_models_key_is_another_key(store: Any) -> None:
    own, other = new_task(store), new_task(store, model="other")

    assert [None, None] == [await store.submit_once(t, "k4", "asked", "") for t in (own, other)]


async def test_the_newest_attempt_that_has_written_is_found(store: Any) -> None:
    task = await submitted(store)
    for attempt in (1, 3, 120):
        await store.write_chunks([chunk(replace(task, attempt=attempt), 0)])

    attempts = [
        await store.last_attempt_with_chunks(task.ref, before)
        for before in (1, 2, 3, 4, 120, 121, 250)
    ]
    assert [0, 1, 1, 3, 3, 120, 120] == attempts


async def test_what_an_attempt_has_written_is_read_up_to_the_first_gap(store: Any) -> None:
    task = replace(await submitted(store), attempt=5)
    head = AnswerHead(200, "text/event-stream", "p", 3, after=((1, 2), (4, 1)))
    wrote = [chunk(task, seq, b"%d" % seq, head if seq == 0 else None) for seq in range(130)]
    await store.write_chunks([*wrote, chunk(task, 131)])

    assert wrote == await store.attempt_chunks(task.ref, 5)
    assert [] == await store.attempt_chunks(task.ref, 4)


EVENT = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'


async def test_an_answer_of_many_events_is_read_as_it_was_written(store: Any) -> None:
    running = await claimed(store, await submitted(store))
    many, tail = EVENT * 100, EVENT * 50
    await store.write_chunks([chunk(running, 0, many)])
    await store.finish(running, AttemptOutcome(status=200, chunks=1, tail=tail))

    alone = await store.read([Wanted(running.ref, 1, 0, 2)], consistent=True)
    together = await store.read(
        [Wanted(running.ref, 1, 0, 2), Wanted(running.ref)], consistent=True
    )

    for result in (alone[0], together[0]):
        assert result.task is not None
        assert ([many], tail) == ([piece.data for piece in result.chunks], result.task.tail)


async def test_who_reads_alone_finds_what_many_find(store: Any) -> None:
    running = await claimed(store, await submitted(store))
    await store.write_chunks([chunk(running, seq, b"%d" % seq) for seq in (0, 1, 3)])
    wants = [Wanted(running.ref, 1, seq, 3) for seq in range(4)]

    together = await store.read(wants, consistent=True)
    alone = [(await store.read([want], consistent=True))[0] for want in wants]

    assert together == alone
    assert [[0, 1], [1, 3], [3], [3]] == [
        [piece.seq for piece in result.chunks] for result in alone
    ]
