"""What is fetched, when, and what goes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from bench import virtual_time
from bench.virtual_time import VirtualClock
from inferline.memory import MemoryQueue
from inferline.queue import Delivery
from inferline_provider.crew import Crew
from inferline_provider.puller import Puller
from inferline_provider.rota import RECEIVES_MAX, Rota
from inferline_provider.slots import Slots
from tests.provider.world import world
from tests.support.backend import Backend
from tests.support.script import Script

#: Sixty of these keep one slot busy for about three seconds.
BUSY = Script(first=0.05, interval=0, tokens=1)
#: One way to the queue and back, seconds.
CALL_SECONDS = 0.02


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

        waiting = [one for one in load if not around.row(one).state.terminal]
        assert len(waiting) > 5


class FarQueue(MemoryQueue):
    """A queue that is a call away, and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__(VirtualClock())
        self.out = self.out_max = self.receives = self.vain = 0
        self.handed_back: list[int] = []

    async def receive(self, queue: str, **asked: Any) -> list[Delivery]:
        self.receives += 1
        self.out += 1
        self.out_max = max(self.out_max, self.out)
        await asyncio.sleep(CALL_SECONDS)
        found = await super().receive(queue, **asked)
        self.out -= 1
        self.vain += not found
        return found

    async def hide(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        if not seconds:
            self.handed_back.append(len(deliveries))
        await super().hide(deliveries, seconds)


class Line:
    """A puller at one queue; what it begins takes as long as it is told."""

    def __init__(self, queue: FarQueue, slots: int, task_seconds: float) -> None:
        self.queue = queue
        self.begun_at: list[float] = []
        self._task_seconds = task_seconds
        self._running: list[asyncio.Task[None]] = []
        clock, rota = VirtualClock(), Rota()
        rota.arrange({"m": {"default": "q"}})
        self.slots = Slots(slots, clock, lambda: self.puller.poke())
        self.puller = Puller(
            *(queue, rota, self.slots, cast(Crew, self), clock),
            poll_seconds=20,
            hidden_seconds=31,
        )
        self.puller.set_open(True)

    def start(self, delivery: Delivery) -> None:
        """Run a task, as a crew does."""
        self.begun_at.append(asyncio.get_running_loop().time())
        self._running.append(asyncio.create_task(self._run(delivery)))

    async def _run(self, delivery: Delivery) -> None:
        await self.queue.delete([delivery])
        await asyncio.sleep(self._task_seconds)
        self.slots.give()


def pulled(
    seconds: float, *asked: dict[str, Any], sent_at: Sequence[float] = (), backlog: int = 0
) -> list[Line]:
    """The lines after so long, at a queue with a backlog to which a message is sent at times."""

    async def run() -> list[Line]:
        queue = FarQueue()
        lines = [Line(queue, **one) for one in asked]
        for moment in [*[0.0] * backlog, *sent_at]:
            asyncio.get_running_loop().call_later(moment, queue.put, "q", "text")
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


def test_few_receives_bring_nothing_when_a_backlog_is_worked_off() -> None:
    (line,) = pulled(20, {"slots": 64, "task_seconds": 1}, backlog=600)

    assert 600 == len(line.begun_at)
    assert line.queue.vain <= RECEIVES_MAX


def test_messages_that_come_one_by_one_cost_one_receive_each() -> None:
    moments = [0.5 + turn / 2 for turn in range(100)]
    (line,) = pulled(60, {"slots": 4, "task_seconds": 1}, sent_at=moments)

    assert 100 == len(line.begun_at)
    assert line.queue.receives <= 100 + 2
