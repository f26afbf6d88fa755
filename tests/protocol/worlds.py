"""The store and the queue that the machine works on: the pure model, and AWS as others wrote it."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.memory.queue import MemoryQueue
from inferline.memory.tasks import MemoryStore
from inferline.tasks.queue import Delivery, Depth, Message
from inferline.tasks.task import Tier
from tests.protocol.loop import LoopClock, SteppedLoop
from tests.support.seams import Seams, opened

#: Longer than any example: only the machine's own time brings hidden messages back.
HIDDEN_SECONDS = 3600


@dataclass(frozen=True)
class World:
    """A store and a queue whose time is the loop's, and the queues of one model."""

    store: Any
    queue: Any
    model: str
    urls: Mapping[Tier, str]


#: Makes one for each example.
Worlds = Callable[[SteppedLoop], World]


def in_memory(
    loop: SteppedLoop, store: type[MemoryStore] = MemoryStore, queue: type[Any] = MemoryQueue
) -> World:
    """Return the pure model."""
    clock = LoopClock(loop)
    made = queue(clock)
    return World(store(clock), made, "m", loop.run_until_complete(made.make("m")))


@contextmanager
def on_aws(url: str) -> Iterator[Worlds]:
    """
    Yield worlds on an emulator, which share its tables and have queues of their own.

    It is called on a loop of its own, in a thread: for the loop of the machine, whose time stands
    still, each call is done at once.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def at_once(call: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(_awaited(call), loop).result()

    parts = opened(url)
    seams: Seams = at_once(parts.__aenter__())
    numbers = itertools.count()

    def made(steps: SteppedLoop) -> World:
        model = f"m{next(numbers)}"
        epoch_ms = time.time() * 1000
        assert seams.client is not None
        store = _TimedStore(seams.client, seams.store.table)
        store.now_ms = lambda: int(epoch_ms + steps.now * 1000)  # type: ignore[method-assign]
        queue = TimedQueue(_AtOnce(seams.queue, at_once), steps)
        urls = at_once(seams.queue_maker.make(model))
        return World(_AtOnce(store, at_once), queue, model, urls)

    try:
        yield made
    finally:
        at_once(parts.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call


class _TimedStore(DynamoTaskStore):
    """The store, whose clock can be set."""


class _AtOnce:
    """A seam whose calls are made elsewhere and waited for."""

    def __init__(self, inner: Any, at_once: Callable[[Awaitable[Any]], Any]) -> None:
        self._inner = inner
        self._at_once = at_once

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name == "now_ms":
            return method

        async def call(*given: Any, **named: Any) -> Any:
            return self._at_once(method(*given, **named))

        return call


class TimedQueue:
    """SQS whose messages come back when the machine's time says so."""

    def __init__(self, queue: Any, loop: SteppedLoop) -> None:
        self._queue = queue
        self._loop = loop
        self._hidden: dict[str, tuple[float, Delivery]] = {}

    async def send(self, queue: str, message: Message, tenant: str) -> None:
        await self._queue.send(queue, message, tenant)

    async def receive(
        self, queue: str, *, limit: int, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[Delivery]:
        await self._surface()
        deliveries: list[Delivery] = await self._queue.receive(
            queue, limit=limit, wait_seconds=0, visibility_timeout_seconds=HIDDEN_SECONDS
        )
        for delivery in deliveries:
            self._hidden[delivery.receipt] = self._loop.now + visibility_timeout_seconds, delivery
        return deliveries

    async def change_visibility(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        await self._queue.change_visibility(deliveries, HIDDEN_SECONDS if seconds else 0)
        for delivery in deliveries:
            self._hidden[delivery.receipt] = self._loop.now + seconds, delivery

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        await self._queue.delete(deliveries)

    async def depth(self, queue: str) -> Depth:
        result: Depth = await self._queue.depth(queue)
        return result

    async def _surface(self) -> None:
        due = [name for name, (until, _) in self._hidden.items() if until <= self._loop.now]
        for name in due:
            await self._queue.change_visibility([self._hidden.pop(name)[1]], 0)
