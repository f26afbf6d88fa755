"""SQS in memory, for a fleet: each queue wakes those that wait at it alone. Calls are counted."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.harness.counting import Tally
from bench.sim.tables import CALL_SECONDS, EPOCH_MS, purpose
from inferline.aws.sqs import BATCH_MAX, queue_name
from inferline.tasks.queue import Delivery, Depth, Message
from inferline.tasks.task import QUEUE_TIERS, Tier

#: Where a stack's queues are.
PLACE = "https://sqs.us-east-1.amazonaws.com/123456789012"


@dataclass(slots=True)
class _Message:
    text: str
    sent_ms: int
    receives: int = 0
    receipt: str = ""
    #: Brings it back, while it is hidden.
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class _Queue:
    visible: deque[_Message] = field(default_factory=deque)
    hidden: dict[str, _Message] = field(default_factory=dict)
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Queues:
    """A `TaskQueue` and a `QueueMaker`."""

    def __init__(self, tallies: Mapping[tuple[str, str], Tally]) -> None:
        self._tallies = tallies
        self._queues: dict[str, _Queue] = defaultdict(_Queue)
        self._receipts = itertools.count(1)

    async def make(self, model: str) -> Mapping[Tier, str]:
        """Return the URLs of a model's queues."""
        return {tier: f"{PLACE}/{queue_name('inferline', model, tier)}" for tier in QUEUE_TIERS}

    async def send(self, queue: str, message: Message, tenant: str) -> None:
        """Put a message on the queue."""
        await self._called("SendMessage")
        now_ms = EPOCH_MS + int(asyncio.get_running_loop().time() * 1000)
        self._show(self._queues[queue], _Message(message.dumps(), now_ms))

    async def send_all(self, queue: str, messages: Sequence[Message], tenant: str) -> None:
        """Put messages on the queue."""
        await self._called("SendMessageBatch", -(-len(messages) // BATCH_MAX))
        now_ms = EPOCH_MS + int(asyncio.get_running_loop().time() * 1000)
        for message in messages:
            self._show(self._queues[queue], _Message(message.dumps(), now_ms))

    async def receive(
        self, queue: str, *, limit: int, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[Delivery]:
        """Take messages, waiting for the first."""
        await self._called("ReceiveMessage")
        there = self._queues[queue]
        if not there.visible and wait_seconds:
            future = asyncio.get_running_loop().create_future()
            there.waiting.append(future)
            await asyncio.wait({future}, timeout=wait_seconds)
            future.cancel()
        taken = [there.visible.popleft() for _ in range(min(limit, len(there.visible)))]
        return [self._deliver(queue, message, visibility_timeout_seconds) for message in taken]

    async def change_visibility(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        """Keep messages hidden, or give them back."""
        await self._called("ChangeMessageVisibilityBatch", -(-len(deliveries) // BATCH_MAX))
        for delivery in deliveries:
            there = self._queues[delivery.queue]
            message = there.hidden.pop(delivery.receipt, None)
            if message is not None:
                self._hide(there, message, seconds)

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages."""
        await self._called("DeleteMessageBatch", -(-len(deliveries) // BATCH_MAX))
        for delivery in deliveries:
            message = self._queues[delivery.queue].hidden.pop(delivery.receipt, None)
            if message is not None and message.timer is not None:
                message.timer.cancel()

    async def depth(self, queue: str) -> Depth:
        """Return how much the queue holds."""
        await self._called("GetQueueAttributes")
        return Depth(len(self._queues[queue].visible), len(self._queues[queue].hidden))

    async def _called(self, operation: str, times: int = 1) -> None:
        await asyncio.sleep(CALL_SECONDS)
        tally = self._tallies[purpose.get(), "sqs"]
        tally.calls[operation] += times
        tally.sqs += times
        tally.fair += operation == "SendMessage"

    def _deliver(self, queue: str, message: _Message, seconds: int) -> Delivery:
        message.receives += 1
        message.receipt = f"receipt-{next(self._receipts)}"
        self._hide(self._queues[queue], message, seconds)
        return Delivery(
            queue=queue,
            receipt=message.receipt,
            text=message.text,
            receives=message.receives,
            sent_ms=message.sent_ms,
        )

    def _hide(self, there: _Queue, message: _Message, seconds: int) -> None:
        if message.timer is not None:
            message.timer.cancel()
        if not seconds:
            self._show(there, message)
            return
        there.hidden[message.receipt] = message
        back: Callable[[], None] = lambda: self._back(there, message)  # noqa: E731
        message.timer = asyncio.get_running_loop().call_later(seconds, back)

    def _back(self, there: _Queue, message: _Message) -> None:
        if there.hidden.pop(message.receipt, None) is not None:
            self._show(there, message)

    def _show(self, there: _Queue, message: _Message) -> None:
        there.visible.append(message)
        while there.waiting:
            if not (future := there.waiting.popleft()).done():
                future.set_result(None)
                return
