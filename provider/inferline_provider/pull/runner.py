"""All tasks under way in this process: started from messages, counted, and stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from inferline.tasks.queue import Delivery
from inferline_provider.backend.slots import Slots
from inferline_provider.pull.suspension import LOWEST, Suspension
from inferline_provider.serve.attempt import Attempt
from inferline_provider.serve.attempt_context import AttemptContext
from inferline_provider.serve.claim import claim
from inferline_provider.serve.leases import Stop

log = logging.getLogger(__name__)


class AttemptRunner:
    """A runner of attempts, each in an asyncio task of its own; it gives back the slot of each."""

    def __init__(
        self,
        context: AttemptContext,
        slots: Slots,
        on_claim: Callable[[str], None],
        on_answer: Callable[[float], None],
        suspension: Suspension,
    ) -> None:
        """
        Call `on_claim` with the model of each claimed task, and `on_answer` with the seconds for
        which each answered task held its slot.
        """
        self._context = context
        self._slots = slots
        self._on_claim = on_claim
        self._on_answer = on_answer
        self._suspension = suspension
        self._tasks: set[asyncio.Task[None]] = set()
        self._attempts: set[Attempt] = set()
        self._stopping = False

    @property
    def running(self) -> int:
        """Return the number of tasks at the backend."""
        return len(self._attempts)

    def start(self, delivery: Delivery, *, gives_way: bool = False) -> None:
        """
        Deal with a message; its slot has been taken.

        With `gives_way` a task of the tier flex may be suspended for a better one.
        """
        task = asyncio.create_task(self._deal_with(delivery, gives_way))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def wait(self, seconds: float) -> bool:
        """Wait until nothing is under way; False if that takes longer than `seconds`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        return not self._tasks

    def stop(self) -> None:
        """Have every attempt hand its task back, also those that are about to begin."""
        self._stopping = True
        for attempt in list(self._attempts):
            attempt.abort(Stop.DRAINED)

    async def _deal_with(self, delivery: Delivery, gives_way: bool) -> None:
        context = self._context
        begun_at = context.clock.monotonic()
        attempt: Attempt | None = None

        def served() -> None:
            self._served(attempt, begun_at)

        try:
            lease_seconds = context.terms.lease_seconds
            owner = context.provider
            claimed = await claim(context.store, context.queue, delivery, owner, lease_seconds)
        except BaseException:
            served()
            raise
        if claimed is None:
            return served()
        gives_way = gives_way and claimed[0].tier == LOWEST
        attempt = Attempt(context, *claimed, delivery, begun_at, gives_way=gives_way)
        self._add(attempt, gives_way)
        await attempt.run(served)
        if attempt.is_suspended and attempt.has_handed_back:
            self._suspension.keep(delivery)
        return None

    def _add(self, attempt: Attempt, gives_way: bool) -> None:
        self._attempts.add(attempt)
        if gives_way:
            self._suspension.add(attempt)
        self._on_claim(attempt.task.model)
        if self._stopping:
            attempt.abort(Stop.DRAINED)

    def _served(self, attempt: Attempt | None, begun_at: float) -> None:
        """Give the slot back, unless a better task has it already."""
        if attempt is None or not attempt.is_suspended:
            self._slots.release()
        if attempt is not None:
            self._suspension.remove(attempt)
            self._attempts.discard(attempt)
            if attempt.is_answered:
                self._on_answer(self._context.clock.monotonic() - begun_at)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The lease is not renewed any more: the task comes again, here or elsewhere.
            log.error("An attempt failed because of a bug in InferLine.", exc_info=error)
