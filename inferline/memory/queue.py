"""The task queue in memory: visibility timeouts end by its clock."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inferline.background import first_of
from inferline.clock import Clock, SystemClock
from inferline.memory.dates import Dates
from inferline.names import slug
from inferline.tasks.queue import Delivery, Depth, Message
from inferline.tasks.task import QUEUE_TIERS, Tier


@dataclass(slots=True)
class _StoredMessage:
    """A message on a queue, hidden until ``visible_at``; only its newest receipt is good."""

    text: str
    sent_ms: int
    visible_at: float = 0.0
    receives: int = 0
    receipt: str = ""


class MemoryQueue:
    """A `TaskQueue` in memory, and a `QueueMaker`. A queue exists as soon as it is named."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._dates = Dates(self._clock)
        self._queues: dict[str, list[_StoredMessage]] = {}
        self._receipts = itertools.count(1)
        self._change = asyncio.Event()

    async def make(self, model: str) -> Mapping[Tier, str]:
        return {tier: f"memory://{slug(model)}-{tier}" for tier in QUEUE_TIERS}

    def messages(self, queue: str) -> list[str]:
        """Return all messages of a queue, hidden ones too. For tests."""
        return [message.text for message in self._queues.get(queue, [])]

    async def send(self, queue: str, message: Message, tenant: str) -> None:
        self.put(queue, message.dumps())

    async def send_all(self, queue: str, messages: Sequence[Message], tenant: str) -> None:
        for message in messages:
            await self.send(queue, message, tenant)

    def put(self, queue: str, text: str) -> None:
        """Put any text on the queue, as a stranger might."""
        self._queues.setdefault(queue, []).append(_StoredMessage(text, self._dates.now_ms()))
        self._wake()

    async def receive(
        self, queue: str, *, limit: int, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[Delivery]:
        until = self._clock.monotonic() + wait_seconds
        while True:
            now = self._clock.monotonic()
            ready = [m for m in self._queues.get(queue, []) if m.visible_at <= now][:limit]
            if ready or now >= until:
                return [
                    self._deliver(queue, message, now + visibility_timeout_seconds)
                    for message in ready
                ]
            hidden = [m.visible_at for m in self._queues.get(queue, [])]
            await self._wait(min([until, *hidden]) - now)

    async def change_visibility(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        for message in map(self._find, deliveries):
            if message is not None:
                message.visible_at = self._clock.monotonic() + seconds
        self._wake()

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if (message := self._find(delivery)) is not None:
                self._queues[delivery.queue].remove(message)

    async def depth(self, queue: str) -> Depth:
        messages, now = self._queues.get(queue, []), self._clock.monotonic()
        waiting = sum(message.visible_at <= now for message in messages)
        return Depth(waiting, len(messages) - waiting)

    def _deliver(self, queue: str, message: _StoredMessage, visible_at: float) -> Delivery:
        message.visible_at = visible_at
        message.receives += 1
        message.receipt = f"receipt-{next(self._receipts)}"
        return Delivery(
            queue=queue,
            receipt=message.receipt,
            text=message.text,
            receives=message.receives,
            sent_ms=message.sent_ms,
        )

    def _find(self, delivery: Delivery) -> _StoredMessage | None:
        messages = self._queues.get(delivery.queue, [])
        return next((m for m in messages if m.receipt == delivery.receipt), None)

    def _wake(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    async def _wait(self, seconds: float) -> None:
        """Wait for the next change, but no longer than ``seconds`` of the clock."""
        await first_of(self._clock.sleep(seconds), self._change.wait())
