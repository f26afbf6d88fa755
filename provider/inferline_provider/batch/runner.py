"""All shards under way in this process: claimed from messages, and stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from inferline.background import first_of
from inferline.tasks.queue import Delivery
from inferline_provider.batch.attempt import ShardAttempt
from inferline_provider.batch.batch_context import BatchContext
from inferline_provider.serve.claim import claim
from inferline_provider.serve.leases import Stop

log = logging.getLogger(__name__)


class ShardRunner:
    """A runner of shards, each in an asyncio task of its own."""

    def __init__(self, context: BatchContext, on_claim: Callable[[str], None]) -> None:
        """Call `on_claim` with the model of each claimed shard."""
        self._context = context
        self._on_claim = on_claim
        self._attempts: dict[ShardAttempt, asyncio.Task[None]] = {}
        self._stopping = False

    async def start(self, delivery: Delivery) -> None:
        """Claim the shard that a message names; return once its lines are known."""
        context = self._context.attempts
        begun_at = context.clock.monotonic()
        lease_seconds = self._context.leases.lease_seconds
        claimed = await claim(
            context.store, context.queue, delivery, context.provider, lease_seconds
        )
        if claimed is None:
            return
        attempt = ShardAttempt(self._context, *claimed, delivery, begun_at)
        self._on_claim(attempt.task.model)
        running = self._attempts[attempt] = asyncio.create_task(attempt.run())
        running.add_done_callback(lambda task: self._ended(attempt, task))
        if self._stopping:
            attempt.abort(Stop.DRAINED)
        await first_of(attempt.loaded.wait(), asyncio.wait({running}))

    def drain(self) -> None:
        """Begin no more lines; a shard goes back once its lines at the backend have ended."""
        self._context.feed.drain()
        for attempt in list(self._attempts):
            attempt.poke()

    def stop(self) -> None:
        """Have every attempt hand its shard back, also those that are about to begin."""
        self._stopping = True
        for attempt in list(self._attempts):
            attempt.abort(Stop.DRAINED)

    async def wait(self, seconds: float) -> bool:
        """Wait until nothing is under way; False if that takes longer than `seconds`."""
        if self._attempts:
            await asyncio.wait(self._attempts.values(), timeout=seconds)
        return not self._attempts

    def _ended(self, attempt: ShardAttempt, task: asyncio.Task[None]) -> None:
        self._attempts.pop(attempt, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The lease is not renewed any more: the shard comes again, here or elsewhere.
            log.error("A shard's attempt failed because of a bug in InferLine.", exc_info=error)
