"""Polling: when messages are received, and which go back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from bench.sim import virtual_time
from bench.sim.virtual_time import VirtualClock
from inferline.fleet.enrolment import Faster
from inferline.memory.queue import MemoryQueue
from inferline.names import slug
from inferline.tasks.queue import Delivery, Message
from inferline.tasks.task import TaskRef, Tier
from inferline_provider.backend.breaker import Breakers
from inferline_provider.backend.slots import Slots
from inferline_provider.pull.puller import Puller
from inferline_provider.pull.runner import AttemptRunner
from inferline_provider.pull.schedule import RECEIVES_MAX, PollSchedule
from inferline_provider.pull.suspension import Suspension
from inferline_provider.pull.yielding import YieldPolicies
from inferline_provider.serve.failed_tasks import ASIDE_SECONDS, AVOID_SECONDS, FailedTasks
from tests.provider.world import world
from tests.support.backend import Backend
from tests.support.script import Script

#: Sixty of these keep one slot busy for about three seconds.
BUSY = Script(first=0.05, interval=0, tokens=1)
#: One way to the queue and back, seconds.
CALL_SECONDS = 0.02
TASK = TaskRef(slug("m"), "t")
MESSAGE = Message(ref=TASK, body=b"{}").dumps()
DEFAULT: dict[Tier, str] = {"default": "q"}
#: With a queue below the one that the messages of a test are sent to, and its backlog lies in.
LOWER: dict[Tier, str] = {"default": "q", "flex": "low"}


@pytest.mark.parametrize("late", [{"model": "b"}, {"tier": "priority"}, {"tier": "flex"}])
async def test_work_that_comes_to_a_quiet_queue_does_not_wait_for_a_busy_one(
    late: dict[str, Any],
) -> None:
    backend = Backend(models=("a", "b"), slots=1, script=BUSY)
    async with world(backend, poll_seconds=1) as around:
        load = [await around.submit(model="a") for _ in range(60)]
        # Longer than a poll: what waited at the quiet queue from the beginning has come back.
        await asyncio.sleep(1.5)
        task = await around.submit(**{"model": "a", **late})

        await around.ended(task)

        waiting = [task for task in load if not around.row(task).state.terminal]
        assert len(waiting) > 5


class FarQueue(MemoryQueue):
    """A queue that is a call away, and counts its calls."""

    def __init__(self) -> None:
        super().__init__(VirtualClock())
        self.out = self.out_max = self.receives = self.vain = 0
        self.handed_back: list[int] = []

    async def receive(self, queue: str, **options: Any) -> list[Delivery]:
        self.receives += 1
        self.out += 1
        self.out_max = max(self.out_max, self.out)
        await asyncio.sleep(CALL_SECONDS)
        deliveries = await super().receive(queue, **options)
        self.out -= 1
        self.vain += not deliveries
        return deliveries

    async def change_visibility(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        if not seconds:
            self.handed_back.append(len(deliveries))
        await super().change_visibility(deliveries, seconds)


class Line:
    """A puller at one queue, whose tasks take a given time."""

    def __init__(
        self,
        queue: FarQueue,
        slots: int,
        task_seconds: float,
        faster: Faster | None = None,
        *,
        has_failed: bool = False,
        tiers: Mapping[Tier, str] = DEFAULT,
    ) -> None:
        self.queue = queue
        self.begun_at: list[float] = []
        #: Which queues they came from.
        self.begun_of: list[str] = []
        #: Which of them may be suspended.
        self.giving_way: list[bool] = []
        self._task_seconds = task_seconds
        self._running: list[asyncio.Task[None]] = []
        clock, yield_policies, schedule = VirtualClock(), YieldPolicies(), PollSchedule()
        failed_tasks = FailedTasks(clock)
        failed_tasks.set_peers({"m": 1})
        if has_failed:
            failed_tasks.add(TASK)
        if faster is not None:
            yield_policies.update({"m": faster}, lambda model: task_seconds)
        schedule.arrange({"m": tiers})
        self.slots = Slots(slots, clock, lambda: self.puller.poke())
        self.puller = Puller(
            *(
                queue,
                schedule,
                self.slots,
                cast(AttemptRunner, self),
                Suspension(self.slots, clock, 30.0),
                clock,
                yield_policies,
                failed_tasks,
            ),
            Breakers(self.slots, clock, lambda: None),
            queue._dates.now_ms,
            poll_seconds=20,
            visibility_timeout_seconds=31,
        )
        self.puller.set_open(True)

    def start(self, delivery: Delivery, *, gives_way: bool) -> None:
        """Run a task, as an `AttemptRunner` does."""
        self.begun_at.append(asyncio.get_running_loop().time())
        self.begun_of.append(delivery.queue)
        self.giving_way.append(gives_way)
        self._running.append(asyncio.create_task(self._run(delivery)))

    async def _run(self, delivery: Delivery) -> None:
        await self.queue.delete([delivery])
        await asyncio.sleep(self._task_seconds)
        self.slots.release()


def pulled(
    seconds: float,
    *options: dict[str, Any],
    sent_at: Sequence[float] = (),
    backlog: int = 0,
    backlog_at: str = "q",
) -> list[Line]:
    """Return the lines after so long; there is a backlog, and messages are sent to `q` at times."""

    async def run() -> list[Line]:
        queue = FarQueue()
        lines = [Line(queue, **more) for more in options]
        loop = asyncio.get_running_loop()
        for _ in range(backlog):
            loop.call_later(0.0, queue.put, backlog_at, MESSAGE)
        for moment in sent_at:
            loop.call_later(moment, queue.put, "q", MESSAGE)
        tasks = [asyncio.create_task(line.puller.run()) for line in lines]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        return lines

    return virtual_time.run(run())


def test_an_idle_queue_costs_one_receive_in_twenty_seconds() -> None:
    (line,) = pulled(100, {"slots": 64, "task_seconds": 1})

    assert 5 == line.queue.receives
    assert 1 == line.queue.out_max


def test_a_large_provider_fills_its_slots_in_a_few_calls() -> None:
    (line,) = pulled(5, {"slots": 512, "task_seconds": 60}, backlog=600)

    assert 512 == len(line.begun_at)
    assert line.begun_at[-1] < 10 * CALL_SECONDS
    assert 1 + RECEIVES_MAX == line.queue.out_max
    assert [] == line.queue.handed_back


@pytest.mark.parametrize("slots", [1, 64, 512])
def test_a_slot_that_falls_free_is_filled_within_two_calls(slots: int) -> None:
    (line,) = pulled(20, {"slots": slots, "task_seconds": 1}, backlog=20 * slots)

    begun = len([moment for moment in line.begun_at if moment > 1])
    assert begun >= 19 * slots / (1 + 2 * CALL_SECONDS) - slots
    assert [] == line.queue.handed_back


@pytest.mark.parametrize(("others_a_second", "gives_way"), [(0, True), (8, False)])
def test_a_flex_task_gives_way_unless_its_turn_came_while_better_ones_wait(
    others_a_second: int, gives_way: bool
) -> None:
    """Else it would have no more than its turn, and never end."""
    moments = [turn / 8 for turn in range(20 * others_a_second)]
    options = {"slots": 4, "task_seconds": 1, "tiers": LOWER}
    (line,) = pulled(15, options, sent_at=moments, backlog=100, backlog_at="low")

    begun = zip(line.begun_at, line.begun_of, line.giving_way, strict=True)
    assert {gives_way} == {may for moment, of, may in begun if moment > 5 and of == "low"}


def test_few_receives_bring_nothing_when_a_backlog_is_worked_off() -> None:
    (line,) = pulled(20, {"slots": 64, "task_seconds": 1}, backlog=600)

    assert 600 == len(line.begun_at)
    assert line.queue.vain <= RECEIVES_MAX


def test_messages_that_come_one_by_one_cost_one_receive_each() -> None:
    moments = [0.5 + turn / 2 for turn in range(100)]
    (line,) = pulled(60, {"slots": 4, "task_seconds": 1}, sent_at=moments)

    assert 100 == len(line.begun_at)
    assert line.queue.receives <= 100 + 2


@pytest.mark.parametrize("task_seconds", [3.0, 30.0, 90.0])
@pytest.mark.parametrize("others", [0, 3])
def test_the_next_slot_is_for_what_came_to_a_better_queue_however_long_it_was_busy(
    task_seconds: float, others: int
) -> None:
    sent_at = 2.9 * task_seconds
    options = {"slots": 1, "task_seconds": task_seconds, "tiers": LOWER}

    lines = pulled(
        *(4 * task_seconds, *[options] * (1 + others)),
        sent_at=[sent_at],
        backlog=10 * (1 + others),
        backlog_at="low",
    )

    begun = [start for line in lines for start in zip(line.begun_at, line.begun_of, strict=True)]
    since = sorted(start for start in begun if start[0] > sent_at)
    assert "q" == since[0][1]


def test_a_queue_that_nothing_comes_to_costs_a_long_task_one_receive_more() -> None:
    options = {"slots": 1, "task_seconds": 30.0, "tiers": LOWER}
    (line,) = pulled(900, options, backlog=100, backlog_at="low")

    begun = len(line.begun_at)
    assert begun >= 29
    assert line.queue.receives <= 3 * begun + 3


SLOW = {"slots": 4, "task_seconds": 8.0, "faster": Faster(times=4)}
QUICK = {"slots": 4, "task_seconds": 2.0}
#: What a slow provider leaves to faster ones for so long.
HANDICAP_SECONDS = 0.24


def test_an_idle_fast_provider_gets_what_a_slow_one_was_given_first() -> None:
    moments = [5.0 * turn for turn in range(1, 20)]
    slow, quick = pulled(100, SLOW, QUICK, sent_at=moments)

    assert ([], 19) == (slow.begun_at, len(quick.begun_at))
    waited = [begun - sent for begun, sent in zip(quick.begun_at, moments, strict=True)]
    assert max(waited) < HANDICAP_SECONDS


def test_a_message_that_no_faster_one_takes_waits_for_the_handicap_and_a_call() -> None:
    (slow,) = pulled(10, SLOW, sent_at=[5.0])

    (begun,) = slow.begun_at
    assert 5 + HANDICAP_SECONDS <= begun < 5 + HANDICAP_SECONDS + 2 * CALL_SECONDS
    assert [1] == slow.queue.handed_back


def test_a_backlog_is_worked_off_by_the_slow_as_by_the_fast() -> None:
    (slow,) = pulled(20, SLOW, backlog=8)

    # Those that were sent this very moment go back once.
    assert slow.begun_at[3] < HANDICAP_SECONDS + 2 * CALL_SECONDS
    assert slow.begun_at[7] < 8 + HANDICAP_SECONDS + 4 * CALL_SECONDS
    assert 1 == len(slow.queue.handed_back)


def test_while_the_faster_ones_are_known_to_be_busy_nothing_waits() -> None:
    (slow,) = pulled(10, SLOW, sent_at=[5.0, 5.5, 6.0])

    assert slow.begun_at[1] == pytest.approx(5.5 + CALL_SECONDS, abs=CALL_SECONDS)
    assert slow.begun_at[2] == pytest.approx(6.0 + CALL_SECONDS, abs=CALL_SECONDS)
    assert [1] == slow.queue.handed_back


@pytest.mark.parametrize("slow", [1, 3, 8])
def test_when_the_faster_ones_have_died_nobody_waits_much_longer_than_the_handicap(
    slow: int,
) -> None:
    options = {**SLOW, "faster": Faster(times=4, fellows=slow), "task_seconds": 4.0}
    moments = [30.0 + 1.3 * turn for turn in range(40)]

    lines = pulled(100, *[options] * slow, sent_at=moments)

    begun = sorted(moment for line in lines for moment in line.begun_at)
    waits = [start - sent for start, sent in zip(begun, moments, strict=True)]
    assert max(waits) < HANDICAP_SECONDS + (1 + slow) * CALL_SECONDS


def test_a_task_that_failed_here_goes_to_another_that_waits() -> None:
    task = {"slots": 1, "task_seconds": 1.0}
    failed, other = pulled(20, {**task, "has_failed": True}, task, sent_at=[1.0])

    (begun,) = other.begun_at
    assert begun < 1 + ASIDE_SECONDS
    assert ([], [1]) == (failed.begun_at, failed.queue.handed_back)


def test_a_task_that_failed_here_and_that_nobody_else_takes_is_tried_again() -> None:
    (alone,) = pulled(20, {"slots": 1, "task_seconds": 1.0, "has_failed": True}, sent_at=[1.0])

    (begun,) = alone.begun_at
    assert AVOID_SECONDS <= begun < AVOID_SECONDS + ASIDE_SECONDS + 2 * CALL_SECONDS
