"""Looks at one moment go together, and are made when they are worth it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from itertools import pairwise

import pytest

from inferline.errors import Unavailable
from inferline.gateway.polling import (
    EARLY_SECONDS,
    READS_MAX,
    TICK_SECONDS,
    PollBackoff,
    SharedPoller,
)
from inferline.memory.tasks import MemoryStore
from inferline.settings import Settings
from inferline.tasks.store import TaskRead, Wanted
from inferline.tasks.task import Chunk, TaskRef
from tests.support.seams import new_task


class Store:
    """Counts the reads; finds what it is told to, and fails when told to."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.failure: Exception | None = None
        self.found = TaskRead(None, ())
        #: Set while reads may end.
        self.answers = asyncio.Event()
        self.answers.set()

    async def read(self, wanted: list[Wanted]) -> list[TaskRead]:
        self.sizes.append(len(wanted))
        await self.answers.wait()
        if self.failure is not None:
            raise self.failure
        return [self.found for _ in wanted]


def wanted(number: int) -> Wanted:
    return Wanted(TaskRef("m", str(number)))


def look(watch: SharedPoller, number: int, pause: float = 0.0) -> Awaitable[TaskRead]:
    """One look, after which there is an answer in any case."""
    return watch.next_change(wanted(number), None, lambda: pause)


async def test_looks_of_one_moment_are_one_read() -> None:
    store = Store()
    watch = SharedPoller(store)  # type: ignore[arg-type]

    await asyncio.gather(*(look(watch, n, 0.02) for n in range(50)))

    assert sum(store.sizes) == 50
    assert len(store.sizes) < 10


async def test_what_falls_due_while_enough_reads_are_under_way_goes_with_the_next() -> None:
    store = Store()
    watch = SharedPoller(store)  # type: ignore[arg-type]
    store.answers.clear()
    looks = []
    for number in range(READS_MAX + 20):
        looks.append(asyncio.ensure_future(look(watch, number)))
        await asyncio.sleep(2 * TICK_SECONDS)

    store.answers.set()
    await asyncio.gather(*looks)

    assert [*[1] * READS_MAX, 20] == store.sizes


async def test_nobody_is_woken_by_what_is_not_new() -> None:
    store = Store()
    watch = SharedPoller(store)  # type: ignore[arg-type]
    old, new = (new_task(MemoryStore()) for _ in "ab")
    store.found = TaskRead(old, ())
    news = asyncio.ensure_future(watch.next_change(wanted(1), old, lambda: 0.0, seconds=60))
    await asyncio.sleep(20 * TICK_SECONDS)

    assert len(store.sizes) > 1
    assert not news.done()
    store.found = TaskRead(new, ())
    assert (await news).task is new


async def test_a_chunk_is_news() -> None:
    store = Store()
    watch = SharedPoller(store)  # type: ignore[arg-type]
    task = new_task(MemoryStore())
    store.found = TaskRead(task, (Chunk(task.ref, 1, 0, b"a", task.ttl),))

    found = await watch.next_change(wanted(1), task, lambda: 0.0, seconds=60)

    assert store.found == found


async def test_after_its_time_there_is_an_answer_in_any_case() -> None:
    store = Store()
    watch = SharedPoller(store)  # type: ignore[arg-type]

    assert store.found == await watch.next_change(wanted(1), None, lambda: 0.0, seconds=0.02)

    assert len(store.sizes) > 1


async def test_who_stopped_waiting_is_not_looked_for() -> None:
    store = Store()
    watch = SharedPoller(store)  # type: ignore[arg-type]
    stopped = asyncio.ensure_future(look(watch, 1, 0.02))
    await asyncio.sleep(0)
    stopped.cancel()

    await asyncio.sleep(0.05)

    assert [] == store.sizes


async def test_a_failed_read_fails_each_of_its_looks_and_no_later_one() -> None:
    store = Store()
    store.failure = Unavailable()
    watch = SharedPoller(store)  # type: ignore[arg-type]

    failed = await asyncio.gather(*(look(watch, n) for n in range(3)), return_exceptions=True)
    store.failure = None

    assert {Unavailable} == {type(one) for one in failed}
    assert TaskRead(None, ()) == await look(watch, 4)


@pytest.mark.parametrize(("streamed", "share"), [(True, 1 / 20), (False, 1 / 10)])
def test_a_beginning_is_seen_within_a_share_of_its_time(streamed: bool, share: float) -> None:
    pace = PollBackoff(Settings(), streamed=streamed)
    at, looks = 0.0, []
    while at < 30:
        at += pace.pause(at, None)
        looks.append(at)

    for before, after in pairwise(looks):
        assert after - before <= max(0.01, min(0.2, before * share)) + 1e-9
    assert len(looks) < 300


@pytest.mark.parametrize("interval", [0.1, 0.4, 1.0])
def test_a_flowing_stream_is_looked_at_halfway_and_when_its_chunk_is_due(interval: float) -> None:
    pace = PollBackoff(Settings(poll_seconds_max=10), streamed=True)
    at, looks = 0.0, []
    while at < interval:
        at += pace.pause(at, interval)
        looks.append(round(at, 3))

    assert [interval / 2, round(interval - EARLY_SECONDS, 3)] == looks[:2]
    assert len(looks) <= 4


@pytest.mark.parametrize("gap", [0.5, 2.0, 60.0])
def test_a_stream_that_is_slow_is_looked_at_about_once_an_interval(gap: float) -> None:
    pace = PollBackoff(Settings(), streamed=True)
    at, looks = 0.0, 0
    while at < gap:
        at += pace.pause(at, 0.1)
        looks += 1

    assert looks <= 7 + gap / 0.1
    assert at - gap <= max(0.1, gap / 20)
