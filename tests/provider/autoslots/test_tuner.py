"""Tuning of slots, beside a scripted engine in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bench.autoslots.engine import Engine, Shape, collapsing, gradual, queueing, sharing
from bench.sim import virtual_time
from bench.sim.virtual_time import VirtualClock
from inferline_provider.autoslots.gauge import Gauge
from inferline_provider.autoslots.tuner import REFUSED_SHARE, SLOTS_MAX, Tuner
from inferline_provider.backend.capacity import UNKNOWN, Room
from inferline_provider.backend.slots import Slots
from inferline_provider.pauses import PAUSES
from inferline_provider.telemetry.attempts import AttemptRecord
from inferline_provider.telemetry.speeds import Speeds

BOUND = 3.0
#: Between a free slot and its next task.
REFILL_SECONDS = 0.03


class Bay:
    """A tuner, its slots and an engine, with as many tasks as they take."""

    def __init__(self, shape: Shape, *, seed: int = 1, streamed: bool = True) -> None:
        self.clock = VirtualClock()
        self.engine = Engine(shape, seed)
        self.slots = Slots(1, self.clock, lambda: None)
        self.speeds = Speeds(self.clock)
        self.gauge = Gauge(self.clock, BOUND, self.speeds)
        self.tuner = Tuner(self.slots, self.gauge, self.clock)
        self.is_loaded = True
        #: So many clients ask, each for one answer after the other.
        self.clients = 10_000
        #: Whether the backend tells how many wait inside, and how many it takes at the most.
        self.tells = False
        self.refuses_above = SLOTS_MAX
        self.limits: list[tuple[float, int]] = []
        self._streamed = streamed
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Let time pass."""
        work = [self._feed(), self._follow(), self.tuner.run(self._waiting)]
        tasks = [asyncio.create_task(each) for each in work]
        done, _ = await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        assert not done

    def held(self, seconds: float) -> float:
        """Return the mean number of slots in the last `seconds`."""
        since = self.clock.monotonic() - seconds
        limits = [limit for at, limit in self.limits if at >= since]
        return sum(limits) / len(limits)

    def done(self, seconds: float) -> float:
        """Return the tokens a second in the last ``seconds``."""
        since = self.clock.monotonic() - seconds
        return sum(made for at, made in self.engine.made.items() if at >= since) / seconds

    async def _waiting(self) -> int | None:
        return self.engine.waiting if self.tells else None

    async def _follow(self) -> None:
        while True:
            self.limits.append((self.clock.monotonic(), self.slots.limit))
            await asyncio.sleep(0.5)

    async def _feed(self) -> None:
        while True:
            taken, begun = self.slots.take(10), 0
            try:
                await asyncio.sleep(REFILL_SECONDS)
                work = self.clients - len(self._tasks) if self.is_loaded else 0
                begun = min(taken, work)
            finally:
                self.slots.release_unneeded(taken - begun)
            for _ in range(begun):
                task = asyncio.create_task(self._serve())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _serve(self) -> None:
        if self.slots.used > self.refuses_above:
            self.slots.release()
            if self.slots.cut(self.slots.used):
                self.tuner.refused()
            return
        record = AttemptRecord(
            model="m", tier="default", path="/p", queue_ms=0, streamed=self._streamed
        )
        asked_at, count = self.clock.monotonic(), 0
        self.gauge.sent(record)
        async for _ in self.engine.answer(next(self._numbers)):
            count += 1
            if self._streamed:
                record.events += 1
                if record.first_seconds is None:
                    record.first_seconds = self.clock.monotonic() - asked_at
                    self.gauge.begun(record)
        record.backend_seconds, record.tokens = self.clock.monotonic() - asked_at, {"output": count}
        self.slots.note_answer()
        self.slots.release()
        record.ending = "answered"
        self.speeds.record(record)
        self.gauge.record(record)


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    virtual_time.run(scene())


#: 60 tokens a second, less the time in which prompts are read.
KNEE_OF_12 = 60 * 6 / 6.5


@pytest.mark.parametrize(
    ("shape", "most"), [(sharing(12), 24), (queueing(12), 15), (collapsing(12), 14)]
)
def test_it_finds_a_knee(shape: Shape, most: int) -> None:
    async def scene() -> None:
        bay = Bay(shape)

        await bay.run(500)

        assert bay.done(300) >= 0.96 * KNEE_OF_12
        assert 11 <= bay.held(300) <= most

    play(scene)


@pytest.mark.parametrize("shape", [queueing(12), collapsing(12)])
def test_it_finds_a_knee_by_answers_that_are_not_streamed(shape: Shape) -> None:
    async def scene() -> None:
        bay = Bay(shape, streamed=False)

        await bay.run(600)

        assert bay.done(300) >= 0.93 * KNEE_OF_12
        assert 11 <= bay.held(300) <= 15

    play(scene)


def test_it_takes_no_more_than_leaves_the_first_token_in_its_bound() -> None:
    async def scene() -> None:
        bay = Bay(gradual(half=16, most=170, first=0.4, crowd=10))

        await bay.run(700)

        firsts = [seconds for at, seconds in bay.engine.firsts if at > 300]
        late = sum(seconds > BOUND for seconds in firsts) / len(firsts)
        assert 0.01 < late < 0.09
        assert 28 <= bay.held(400) <= 42

    play(scene)


def test_far_below_the_knee_it_is_quick() -> None:
    async def scene() -> None:
        bay = Bay(sharing(200, rate=2.0))

        await bay.run(60)

        assert bay.tuner.limit >= 128

    play(scene)


def test_without_work_that_waits_it_tries_nothing() -> None:
    async def scene() -> None:
        bay = Bay(sharing(12))
        bay.is_loaded = False

        await bay.run(60)

        assert {1} == {limit for _, limit in bay.limits}

    play(scene)


def test_with_few_clients_it_goes_as_far_as_they_need() -> None:
    async def scene() -> None:
        bay = Bay(sharing(100))
        bay.clients = 22

        await bay.run(300)

        assert bay.tuner.limit >= 20
        assert bay.done(100) >= 0.9 * 22 * 5 * 6 / 6.5

    play(scene)


def test_what_was_found_outlasts_a_time_without_work() -> None:
    async def scene() -> None:
        bay = Bay(queueing(12))
        await bay.run(300)
        before = bay.held(100)
        bay.is_loaded = False

        await bay.run(600)
        bay.is_loaded = True
        await bay.run(60)

        assert bay.held(600) == pytest.approx(before, abs=1.5)
        assert bay.done(50) >= 0.95 * KNEE_OF_12

    play(scene)


def test_it_follows_a_backend_that_gets_worse_and_better_again() -> None:
    async def scene() -> None:
        bay = Bay(queueing(16))
        await bay.run(250)

        bay.engine.become(queueing(8))
        await bay.run(250)
        assert 7 <= bay.held(60) <= 10

        bay.engine.become(queueing(16))
        await bay.run(300)
        assert 15 <= bay.held(60) <= 20

    play(scene)


def test_tasks_that_wait_inside_the_backend_are_too_many_though_nothing_is_late() -> None:
    async def scene(tells: bool) -> float:
        bay = Bay(Shape(speed=lambda n: 20.0, running_max=6, tokens=10))
        bay.tells = tells
        await bay.run(300)
        return bay.held(150)

    reporting, silent = (virtual_time.run(scene(tells)) for tells in (True, False))

    assert 6 <= reporting <= 6.5 < silent


def test_a_backend_that_knows_its_slots_never_gets_more() -> None:
    async def scene() -> None:
        bay = Bay(sharing(24))
        bay.tuner.know(Room(6, 6, "the backend's /props say so"))

        await bay.run(200)

        assert 6 == max(limit for at, limit in bay.limits if at)
        assert bay.held(100) > 5.5

    play(scene)


def test_it_begins_with_what_the_backend_tells_and_goes_beyond() -> None:
    async def scene() -> None:
        bay = Bay(sharing(24))
        bay.tuner.know(Room(10, None, "its cache holds so many"))
        assert 10 == bay.slots.limit

        await bay.run(200)

        assert 22 <= bay.held(60)

    play(scene)


def test_it_begins_anew_only_when_the_backend_tells_something_else() -> None:
    async def scene() -> None:
        bay = Bay(sharing(12))
        room = Room(4, None, "its cache holds so many")
        bay.tuner.know(room)
        await bay.run(60)
        before = bay.tuner.limit

        bay.tuner.know(room)
        assert before == bay.tuner.limit > 4

        bay.tuner.know(UNKNOWN)
        assert 1 == bay.tuner.limit == bay.slots.limit

    play(scene)


def test_a_backend_that_refuses_more_is_filled_but_for_a_little() -> None:
    async def scene() -> None:
        bay = Bay(sharing(100))
        bay.refuses_above = 20

        await bay.run(400)

        assert 16 <= bay.held(200) <= 20
        assert bay.done(200) >= 0.85 * 100 * 6 / 6.5

    play(scene)


def test_a_refusal_of_what_was_held_leaves_less() -> None:
    async def scene() -> None:
        bay = Bay(sharing(40))
        bay.tuner.know(Room(16, None, "its cache holds so many"))

        bay.slots.cut(12)
        bay.tuner.refused()

        assert 16 * REFUSED_SHARE == bay.tuner.limit == bay.slots.limit

    play(scene)


def test_a_backend_that_fails_on_trial_is_not_tried_so_again_at_once() -> None:
    async def scene() -> None:
        bay = Bay(sharing(100))
        while bay.tuner.limit < 16:
            await bay.run(1)
        await asyncio.sleep(60)  # What runs ends, and nobody looks.
        for _ in range(2):
            bay.slots.note_unreachable()
            await asyncio.sleep(PAUSES.rest_seconds[1])

        bay.tuner.check()
        assert 8 == bay.tuner.limit
        bay.slots.note_answer()
        bay.limits.clear()
        await bay.run(40)
        assert 8 < max(limit for _, limit in bay.limits) < 16

    play(scene)


def test_the_log_is_told_where_it_settles_and_why(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        await Bay(collapsing(12)).run(300)

    with caplog.at_level(logging.INFO, "inferline_provider.autoslots.tuner"):
        play(scene)

    first = caplog.messages[0]
    assert first.startswith("Slots: ")
    assert first.endswith(", 1 before: it does no more with more.")
    assert len(caplog.messages) < 6
