"""SQS and DynamoDB in virtual time, as far away as AWS's own are."""

from __future__ import annotations

import asyncio
import itertools
import random
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bench.harness.distance import DYNAMODB, SEND_TO_RECEIVE, Distance
from bench.sim.virtual_time import VirtualClock
from inferline.memory.tasks import MemoryStore
from inferline.names import slug
from inferline.tasks.queue import Delivery, Depth, Message
from inferline.tasks.store import AttemptOutcome, Claimed, Refused
from inferline.tasks.task import QUEUE_TIERS, Task, TaskRef, Tier

#: Of a call of SQS, which takes as long as from SendMessage to a receive, the way there, seconds.
WAY_SECONDS = 0.004
#: What was received so often goes to the end of its queue when it is visible again.
RECEIVES_OFTEN = 3
#: Less is over: virtual time does not go on by so little.
MOMENT_SECONDS = 1e-6


class FarStore(MemoryStore):
    """A store on the other side of a network, as far as providers and submits go."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(VirtualClock())
        self._distance = Distance(DYNAMODB, chance)

    async def submit(self, task: Task) -> None:
        await self._pass_by()
        await super().submit(task)

    async def claim(self, ref: TaskRef, owner: str, lease_seconds: float) -> Claimed | Refused:
        await self._pass_by()
        return await super().claim(ref, owner, lease_seconds)

    async def finish(self, task: Task, outcome: AttemptOutcome) -> None:
        await self._pass_by()
        await super().finish(task, outcome)

    async def _pass_by(self) -> None:
        await asyncio.sleep(self._distance.draw())


@dataclass(slots=True, eq=False)
class _Message:
    """A message: visible, or out with somebody by its newest receipt until a timer says."""

    text: str
    sent_ms: int
    receives: int = 0
    receipt: str = ""
    timer: asyncio.TimerHandle | None = None

    @property
    def turn(self) -> tuple[bool, int]:
        """Return of the messages that are visible, the least is received first."""
        return self.receives >= RECEIVES_OFTEN, self.sent_ms


@dataclass(slots=True)
class _Place:
    """One queue."""

    #: In the order in which they will be received.
    visible: list[_Message] = field(default_factory=list)
    out: dict[str, _Message] = field(default_factory=dict)
    #: Receives that wait.
    receives: list[asyncio.Future[None]] = field(default_factory=list)


class FarQueue:
    """
    A `TaskQueue` and `QueueMaker` as SQS is: of the receives that wait, any may get a message.

    What is sent meets a receive at the queue, and each has a way there and a way back.
    """

    def __init__(self, chance: random.Random, now_ms: Callable[[], int]) -> None:
        self._chance = chance
        self._distance = Distance(SEND_TO_RECEIVE, chance)
        self._now_ms = now_ms
        self._places: defaultdict[str, _Place] = defaultdict(_Place)
        self._receipts = itertools.count(1)
        #: How often each operation was called.
        self.calls: Counter[str] = Counter()

    async def make(self, model: str) -> Mapping[Tier, str]:
        return {tier: f"far://{slug(model)}-{tier}" for tier in QUEUE_TIERS}

    async def send(self, queue: str, message: Message, tenant: str) -> None:
        async with self._call("SendMessage"):
            self._show(self._places[queue], _Message(message.dumps(), self._now_ms()))

    async def send_all(self, queue: str, messages: Sequence[Message], tenant: str) -> None:
        for message in messages:
            await self.send(queue, message, tenant)

    async def receive(
        self, queue: str, *, limit: int, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[Delivery]:
        place = self._places[queue]
        async with self._call("ReceiveMessage"):
            await self._wait(place, wait_seconds)
            messages, place.visible = place.visible[:limit], place.visible[limit:]
            return [
                self._deliver(queue, place, message, visibility_timeout_seconds)
                for message in messages
            ]

    async def change_visibility(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        async with self._call("ChangeMessageVisibilityBatch"):
            for place, message in self._found(deliveries):
                if seconds:
                    self._hide(place, message, seconds)
                else:
                    self._show(place, message)

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        async with self._call("DeleteMessageBatch"):
            for place, message in self._found(deliveries):
                self._take(place, message)

    async def depth(self, queue: str) -> Depth:
        place = self._places[queue]
        return Depth(len(place.visible), len(place.out))

    @asynccontextmanager
    async def _call(self, operation: str) -> AsyncIterator[None]:
        self.calls[operation] += 1
        await asyncio.sleep(WAY_SECONDS)
        yield
        await asyncio.sleep(max(0.0, self._distance.draw() - WAY_SECONDS))

    async def _wait(self, place: _Place, seconds: int) -> None:
        """Return when something is visible, or after ``seconds``."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not place.visible and (left := until - loop.time()) > MOMENT_SECONDS:
            mine = loop.create_future()
            place.receives.append(mine)
            try:
                await asyncio.wait([mine], timeout=left)
            finally:
                if mine in place.receives:
                    place.receives.remove(mine)

    def _show(self, place: _Place, message: _Message) -> None:
        """Make a message visible, and wake whoever is to have it."""
        self._take(place, message)
        insort(place.visible, message, key=lambda one: one.turn)
        if place.receives:
            at = self._chance.randrange(len(place.receives))
            place.receives.pop(at).set_result(None)

    def _deliver(self, queue: str, place: _Place, message: _Message, seconds: int) -> Delivery:
        message.receives += 1
        message.receipt = str(next(self._receipts))
        self._hide(place, message, seconds)
        return Delivery(
            queue=queue,
            receipt=message.receipt,
            text=message.text,
            receives=message.receives,
            sent_ms=message.sent_ms,
        )

    def _hide(self, place: _Place, message: _Message, seconds: int) -> None:
        self._take(place, message)
        place.out[message.receipt] = message
        loop = asyncio.get_running_loop()
        message.timer = loop.call_later(seconds, self._show, place, message)

    def _take(self, place: _Place, message: _Message) -> None:
        """Have a message out no longer."""
        place.out.pop(message.receipt, None)
        if message.timer is not None:
            message.timer.cancel()

    def _found(self, deliveries: Sequence[Delivery]) -> list[tuple[_Place, _Message]]:
        """Return those that are still out by the receipt that is shown."""
        places = ((self._places[one.queue], one.receipt) for one in deliveries)
        return [(place, place.out[id]) for place, id in places if id in place.out]
