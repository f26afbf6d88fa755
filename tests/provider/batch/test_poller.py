"""Polls of the queues of batches: which shards a provider takes, and when."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from inferline.memory.queue import MemoryQueue
from inferline.tasks.queue import Delivery
from tests.provider.batch.shards import line, submit
from tests.provider.world import World, until, world
from tests.support.backend import Backend
from tests.support.script import Script

SLOW = {"x_script": {"first": 60}}
QUICK = Script(first=0.01, interval=0, tokens=2)


def receives(around: World) -> list[int]:
    """Return how often each message of the batch queue was received."""
    [messages] = [sent for url, sent in around.queue._queues.items() if url.endswith("-batch")]
    return [message.receives for message in messages]


class PolledQueue(MemoryQueue):
    """A queue that notes when a batch queue is polled."""

    polled = False

    async def receive(self, queue: str, **options: Any) -> list[Delivery]:
        self.polled |= queue.endswith("-batch")
        return await super().receive(queue, **options)


async def test_no_shard_is_taken_while_requests_have_all_slots() -> None:
    backend = Backend(slots=2, script=QUICK)
    async with world(backend) as around:
        requests = [await around.submit(SLOW) for _ in range(2)]
        await until(lambda: backend.running == 2)
        # Longer than a poll, which may have begun before.
        await asyncio.sleep(1.2)
        task = await submit(around, [line(0)])
        await asyncio.sleep(0.5)
        assert receives(around) == [0]

        for request in requests:
            await around.store.cancel(request.ref)

        await around.ended(task)


async def test_a_shard_that_comes_when_there_is_no_room_any_more_goes_back() -> None:
    backend, queue = Backend(slots=2, script=QUICK), PolledQueue()
    async with world(backend, poll_seconds=20, queue=queue) as around:
        await until(lambda: queue.polled)
        for _ in range(2):
            await around.submit(SLOW)
        await until(lambda: backend.running == 2)

        task = await submit(around, [line(0)])

        await until(lambda: receives(around) == [1])
        assert around.row(task).attempt == 0
        url = (await around.queue.make("test-model"))["batch"]
        await until(lambda: around.queue._queues[url][0].visible_at <= time.monotonic())


async def test_no_more_shards_are_taken_than_there_are_lines_to_begin() -> None:
    backend = Backend(slots=4, script=Script(first=60))
    async with world(backend) as around:
        for number in range(4):
            await submit(around, [line(at) for at in range(6)], number=number)
        await until(lambda: backend.running == 4)

        # The first leaves two lines, which are fewer than the slots; with the second there are 8.
        await until(lambda: sum(receives(around)) == 2)
        await asyncio.sleep(1.2)

        assert sum(receives(around)) == 2


async def test_nothing_is_taken_while_the_backend_is_unwell() -> None:
    backend = Backend(slots=2, script=QUICK)
    async with world(backend) as around:
        backend.healthy = False
        await until(lambda: not around.gateway.enrolments[-1]["healthy"])
        await asyncio.sleep(1.2)
        task = await submit(around, [line(0)])
        await asyncio.sleep(0.5)
        assert receives(around) == [0]

        backend.healthy = True

        await around.ended(task)


async def test_a_provider_says_that_it_takes_batches_and_how_many_lines_run() -> None:
    backend = Backend(slots=2, script=Script(first=60))
    async with world(backend) as around:
        await submit(around, [line(at) for at in range(6)])

        await until(lambda: around.gateway.enrolments[-1]["running"] == 2)

        assert around.gateway.enrolments[0]["takes_batches"] is True
