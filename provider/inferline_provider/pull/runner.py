"""All tasks under way in this process: begun from messages, counted, and stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from inferline.tasks.queue import Delivery
from inferline_provider.backend.slots import Slots
from inferline_provider.serve.attempt import Attempt
from inferline_provider.serve.attempt_context import AttemptContext
from inferline_provider.serve.claim import claim
from inferline_provider.serve.leases import Stop

log = logging.getLogger(__name__)

#: Weight of the newest task in the mean time that a task takes.
NEWEST_WEIGHT: Final = 0.1


class AttemptRunner:
    """Runs attempts, each in a task of its own, and gives the slot of each back."""

    def __init__(
        self, context: AttemptContext, slots: Slots, on_ran: Callable[[str], None]
    ) -> None:
        self._context = context
        self._slots = slots
        self._on_ran = on_ran
        self._tasks: set[asyncio.Task[None]] = set()
        self._attempts: set[Attempt] = set()
        self._stopping = False
        #: Mean time a task takes at the backend, seconds; 0 before the first.
        self.service_seconds = 0.0

    @property
    def running(self) -> int:
        """How many tasks are at the backend."""
        return len(self._attempts)

    def start(self, delivery: Delivery) -> None:
        """Deal with a message; its slot has been taken."""
        task = asyncio.create_task(self._deal_with(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def wait(self, seconds: float) -> bool:
        """Wait until nothing is under way; False if that takes longer than `seconds`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        return not self._tasks

    def stop(self) -> None:
        """Have every attempt hand its task back, those too that are about to begin."""
        self._stopping = True
        for attempt in list(self._attempts):
            attempt.abort(Stop.DRAINED)

    async def _deal_with(self, delivery: Delivery) -> None:
        context = self._context
        begun_at = context.clock.monotonic()
        attempt: Attempt | None = None

        def served() -> None:
            self._slots.give()
            if attempt is not None:
                self._attempts.discard(attempt)
                if attempt.is_answered:
                    self._took(context.clock.monotonic() - begun_at)

        try:
            lease_seconds = context.terms.lease_seconds
            owner = context.provider
            claimed = await claim(context.store, context.queue, delivery, owner, lease_seconds)
        except BaseException:
            served()
            raise
        if claimed is None:
            return served()
        attempt = Attempt(context, *claimed, delivery, begun_at)
        self._attempts.add(attempt)
        self._on_ran(attempt.task.model)
        if self._stopping:
            attempt.abort(Stop.DRAINED)
        return await attempt.run(served)

    def _took(self, seconds: float) -> None:
        mean = self.service_seconds or seconds
        self.service_seconds = mean + (seconds - mean) * NEWEST_WEIGHT

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The lease is not renewed any more: the task comes again, here or elsewhere.
            log.error("An attempt broke by a fault of ours.", exc_info=error)
