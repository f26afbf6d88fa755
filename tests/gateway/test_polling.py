"""Reads at the same moment go together, and are made when they are worth their cost."""

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
    """A store that counts its reads and returns `result`, or raises `failure`."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.failure: Exception | None = None
        self.result = TaskRead(None, ())
        #: Set while reads may end.
        self.answers = asyncio.Event()
        self.answers.set()

    async def read(self, wanted: list[Wanted]) -> list[TaskRead]:
        self.sizes.append(len(wanted))
        await self.answers.wait()
        if self.failure is not None:
            raise self.failure
        return [self.result for _ in wanted]


def wanted(number: int) -> Wanted:
    return Wanted(TaskRef("m", str(number)))


def read(poller: SharedPoller, number: int, pause: float = 0.0) -> Awaitable[TaskRead]:
    """Poll until the first read."""
    return poller.next_change(wanted(number), None, lambda: pause)


async def test_callers_of_one_moment_share_a_read() -> None:
    store = Store()
    poller = SharedPoller(store)  # type: ignore[arg-type]

    await asyncio.gather(*(read(poller, n, 0.02) for n in range(50)))

    assert sum(store.sizes) == 50
    assert len(store.sizes) < 10


async def test_what_falls_due_while_enough_reads_are_under_way_goes_with_the_next() -> None:
    store = Store()
    poller = SharedPoller(store)  # type: ignore[arg-type]
    store.answers.clear()
    reads = []
    for number in range(READS_MAX + 20):
        reads.append(asyncio.ensure_future(read(poller, number)))
        await asyncio.sleep(2 * TICK_SECONDS)

    store.answers.set()
    await asyncio.gather(*reads)

    assert [*[1] * READS_MAX, 20] == store.sizes


async def test_a_caller_is_woken_only_by_a_change() -> None:
    store = Store()
    poller = SharedPoller(store)  # type: ignore[arg-type]
    old, new = (new_task(MemoryStore()) for _ in "ab")
    store.result = TaskRead(old, ())
    change = asyncio.ensure_future(poller.next_change(wanted(1), old, lambda: 0.0, seconds=60))
    await asyncio.sleep(20 * TICK_SECONDS)

    assert len(store.sizes) > 1
    assert not change.done()
    store.result = TaskRead(new, ())
    assert (await change).task is new


async def test_a_chunk_is_a_change() -> None:
    store = Store()
    poller = SharedPoller(store)  # type: ignore[arg-type]
    task = new_task(MemoryStore())
    store.result = TaskRead(task, (Chunk(task.ref, 1, 0, b"a", task.ttl),))

    result = await poller.next_change(wanted(1), task, lambda: 0.0, seconds=60)

    assert store.result == result


async def test_after_its_time_there_is_an_answer_in_any_case() -> None:
    store = Store()
    poller = SharedPoller(store)  # type: ignore[arg-type]

    assert store.result == await poller.next_change(wanted(1), None, lambda: 0.0, seconds=0.02)

    assert len(store.sizes) > 1


async def test_a_caller_that_stopped_waiting_causes_no_read() -> None:
    store = Store()
    poller = SharedPoller(store)  # type: ignore[arg-type]
    stopped = asyncio.ensure_future(read(poller, 1, 0.02))
    await asyncio.sleep(0)
    stopped.cancel()

    await asyncio.sleep(0.05)

    assert [] == store.sizes


async def test_a_failed_read_fails_each_of_its_callers_and_no_later_one() -> None:
    store = Store()
    store.failure = Unavailable()
    poller = SharedPoller(store)  # type: ignore[arg-type]

    failed = await asyncio.gather(*(read(poller, n) for n in range(3)), return_exceptions=True)
    store.failure = None

    assert {Unavailable} == {type(error) for error in failed}
    assert TaskRead(None, ()) == await read(poller, 4)


@pytest.mark.parametrize(("streamed", "share"), [(True, 1 / 20), (False, 1 / 10)])
def test_a_beginning_is_seen_within_a_share_of_its_time(streamed: bool, share: float) -> None:
    backoff = PollBackoff(Settings(), streamed=streamed)
    at, reads = 0.0, []
    while at < 30:
        at += backoff.pause(at, None)
        reads.append(at)

    for before, after in pairwise(reads):
        assert after - before <= max(0.01, min(0.2, before * share)) + 1e-9
    assert len(reads) < 300


@pytest.mark.parametrize("interval", [0.1, 0.4, 1.0])
def test_a_flowing_stream_is_read_halfway_and_when_its_chunk_is_due(interval: float) -> None:
    backoff = PollBackoff(Settings(poll_seconds_max=10), streamed=True)
    at, reads = 0.0, []
    while at < interval:
        at += backoff.pause(at, interval)
        reads.append(round(at, 3))

    assert [interval / 2, round(interval - EARLY_SECONDS, 3)] == reads[:2]
    assert len(reads) <= 4


@pytest.mark.parametrize("gap", [0.5, 2.0, 60.0])
def test_a_stream_that_is_slow_is_read_about_once_an_interval(gap: float) -> None:
    backoff = PollBackoff(Settings(), streamed=True)
    at, reads = 0.0, 0
    while at < gap:
        at += backoff.pause(at, 0.1)
        reads += 1

    assert reads <= 7 + gap / 0.1
    assert at - gap <= max(0.1, gap / 20)
