from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inferline.errors import Unavailable
from inferline.memory.queue import MemoryQueue
from inferline.memory.tasks import MemoryStore
from inferline.tasks.queue import Delivery
from inferline.tasks.store import AttemptOutcome, Claimed, TaskStatus
from inferline.tasks.task import State, Task, TaskRef
from inferline_provider.serve.leases import Leases, Stop
from tests.provider.fakes import FakeClock
from tests.support.seams import new_task

LEASE_SECONDS = 30.0
UNREAD_TASK_SECONDS = 60.0
CANCEL_SECONDS = 0.4


@dataclass(eq=False)
class Held:
    task: Task
    delivery: Delivery
    confirmed_at: float
    stops: list[Stop] = field(default_factory=list)

    def abort(self, stop: Stop) -> None:
        self.stops.append(stop)


class SilentStore(MemoryStore):
    """A store that does not answer while it is silent."""

    silent = False

    async def renew(self, task: Task, lease_seconds: float) -> Task:
        if self.silent:
            raise Unavailable
        return await super().renew(task, lease_seconds)

    async def statuses(self, refs: Any) -> Any:
        if self.silent:
            raise Unavailable
        return await super().statuses(refs)


class Scene:
    """A running attempt whose message is out, on a clock that a test moves."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = SilentStore(self.clock)
        self.queue = MemoryQueue(self.clock)
        self.leases = Leases(
            self.store, self.queue, self.clock, LEASE_SECONDS, UNREAD_TASK_SECONDS, CANCEL_SECONDS
        )

    async def held(self) -> Held:
        task = new_task(self.store, seconds=600)
        await self.store.submit(task)
        self.queue.put("q", task.ref.id)
        visibility_timeout_seconds = self.leases.visibility_timeout_seconds
        (delivery,) = await self.queue.receive(
            "q", limit=1, wait_seconds=0, visibility_timeout_seconds=visibility_timeout_seconds
        )
        claimed = await self.store.claim(task.ref, "p1", LEASE_SECONDS)
        assert isinstance(claimed, Claimed)
        held = Held(claimed.task, delivery, self.clock.monotonic())
        self.leases.hold(held)
        return held

    async def pass_time(self, seconds: float, step: float = 1.0) -> None:
        for _ in range(int(seconds / step)):
            self.clock.advance(step)
            self.leases.fence()
            await self.leases.renew_due()


async def test_a_lease_is_kept_for_as_long_as_the_task_runs() -> None:
    scene = Scene()
    held = await scene.held()

    await scene.pass_time(LEASE_SECONDS * 5)

    row = scene.store.task(held.task.ref)
    assert row is not None
    assert row.lease_ms > scene.store.now_ms()
    assert (await scene.queue.depth("q")).running == 1
    assert held.stops == []


async def test_a_lease_is_renewed_at_a_third_and_not_more_often() -> None:
    scene = Scene()
    held = await scene.held()

    await scene.pass_time(9)
    assert held.confirmed_at == scene.clock.monotonic() - 9

    await scene.pass_time(1)
    assert held.confirmed_at == scene.clock.monotonic()


async def test_a_renewal_that_failed_is_tried_again_at_once() -> None:
    scene = Scene()
    held = await scene.held()
    scene.store.silent = True
    await scene.pass_time(12)

    scene.store.silent = False
    await scene.pass_time(1)

    assert held.confirmed_at == scene.clock.monotonic()


async def test_an_attempt_that_can_not_renew_stops_before_its_lease_ends() -> None:
    scene = Scene()
    held = await scene.held()
    scene.store.silent = True

    await scene.pass_time(25)
    assert held.stops == []

    await scene.pass_time(2)
    assert Stop.FENCED in held.stops


async def test_a_process_that_was_asleep_stops_its_attempts_first() -> None:
    scene = Scene()
    held = await scene.held()

    scene.clock.advance(LEASE_SECONDS)
    scene.leases.fence()

    assert held.stops == [Stop.FENCED]


async def test_an_attempt_that_another_took_over_stops() -> None:
    scene = Scene()
    held = await scene.held()
    scene.clock.advance(LEASE_SECONDS + 1)
    await scene.store.claim(held.task.ref, "p2", LEASE_SECONDS)

    await scene.leases.renew_due()
    await scene.leases.check()

    assert set(held.stops) == {Stop.LOST}


async def test_a_cancel_is_heard_of() -> None:
    scene = Scene()
    held, other = await scene.held(), await scene.held()
    await scene.store.cancel(held.task.ref)

    await scene.leases.check()

    assert (held.stops, other.stops) == ([Stop.ENDED], [])


async def test_a_silent_store_stops_nothing_by_itself() -> None:
    scene = Scene()
    held = await scene.held()
    scene.store.silent = True

    await scene.leases.check()

    assert held.stops == []


async def test_an_old_picture_of_the_task_stops_nothing() -> None:
    scene = Scene()
    held = await scene.held()

    class Stale(SilentStore):
        async def statuses(self, refs: Any) -> Any:
            return {held.task.ref: TaskStatus(State.QUEUED, 0, 0)}

    scene.leases = Leases(
        Stale(scene.clock),
        scene.queue,
        scene.clock,
        LEASE_SECONDS,
        UNREAD_TASK_SECONDS,
        CANCEL_SECONDS,
    )
    scene.leases.hold(held)
    await scene.leases.check()

    assert held.stops == []


async def test_a_task_that_nobody_reads_goes_on_for_a_while_and_is_then_cancelled() -> None:
    scene = Scene()
    held, other = await scene.held(), await scene.held()
    assert await scene.store.renew_reader_lease(held.task, "a-gateway", 20.0)

    await scene.pass_time(20 + UNREAD_TASK_SECONDS)
    await scene.leases.check()
    assert held.stops == []

    await scene.pass_time(1)
    await scene.leases.check()
    assert (held.stops, other.stops) == ([Stop.ENDED], [])
    row = scene.store.task(held.task.ref)
    assert row is not None
    assert row.state is State.CANCELLED


async def test_a_task_whose_reader_is_back_by_the_last_moment_goes_on() -> None:
    scene = Scene()
    held = await scene.held()
    assert await scene.store.renew_reader_lease(held.task, "a-gateway", 20.0)
    await scene.pass_time(21 + UNREAD_TASK_SECONDS)

    class JustInTime(SilentStore):
        async def statuses(self, refs: Any) -> Any:
            statuses = await scene.store.statuses(refs)
            row = scene.store.task(held.task.ref)
            assert row is not None
            assert await scene.store.renew_reader_lease(row, "another", 20.0)
            return statuses

        async def cancel_unread(self, ref: TaskRef, before_ms: int) -> bool:
            return await scene.store.cancel_unread(ref, before_ms)

    scene.leases._store = JustInTime(scene.clock)
    await scene.leases.check()

    assert held.stops == []


async def test_a_dropped_attempt_is_not_renewed() -> None:
    scene = Scene()
    held = await scene.held()
    await scene.store.finish(held.task, AttemptOutcome(status=200))
    scene.leases.drop(held)

    await scene.pass_time(LEASE_SECONDS)

    assert held.stops == []
    row = scene.store.task(held.task.ref)
    assert row is not None
    assert row.state is State.DONE
