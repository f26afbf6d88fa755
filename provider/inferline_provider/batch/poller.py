"""Polling of the queues of batches: only while slots are free that nothing else uses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Final

from inferline.background import Backoff, Wake
from inferline.clock import Clock
from inferline.errors import Unavailable
from inferline.tasks.queue import Delivery, TaskQueue
from inferline.tasks.task import Tier
from inferline_provider.backend.breaker import Breakers
from inferline_provider.backend.slots import Slots
from inferline_provider.batch.feed import LineFeed
from inferline_provider.batch.runner import ShardRunner
from inferline_provider.serve.failed_tasks import ASIDE_SECONDS, FailedTasks

log = logging.getLogger(__name__)

#: Longest time between two turns, seconds: a slot that has been quiet makes no sound.
TICK_SECONDS: Final = 0.25
#: Pauses of a queue after a receive that failed.
PAUSES: Final = Backoff(1.0, 30.0)


class ShardPoller:
    """
    A consumer of the queues of batches: one message of each model at a time.

    As with `Puller` a receive is never cancelled; a message that is not wanted goes back at once.
    """

    def __init__(
        self,
        queue: TaskQueue,
        slots: Slots,
        feed: LineFeed,
        runner: ShardRunner,
        clock: Clock,
        failed_tasks: FailedTasks,
        breakers: Breakers,
        *,
        poll_seconds: int,
        visibility_timeout_seconds: int,
    ) -> None:
        self._queue = queue
        self._slots = slots
        self._feed = feed
        self._runner = runner
        self._clock = clock
        self._failed_tasks = failed_tasks
        self._breakers = breakers
        self._poll_seconds = poll_seconds
        self._visibility_timeout_seconds = visibility_timeout_seconds
        #: The queues by the model's name in the registry.
        self._urls: dict[str, str] = {}
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._paused_until: dict[str, float] = {}
        self._failures = 0
        self._wake = Wake(clock)

    def arrange(self, queues: Mapping[str, Mapping[Tier, str]]) -> None:
        """Poll these queues, by model and tier, from now on."""
        self._urls = {model: tiers["batch"] for model, tiers in queues.items() if "batch" in tiers}
        self._wake.set()

    def poke(self) -> None:
        """Look again: lines have begun."""
        self._wake.set()

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            for model in self._urls:
                if model not in self._polls and self._wants(model):
                    poll = self._polls[model] = asyncio.create_task(self._poll(model))
                    poll.add_done_callback(partial(self._ended, model))
            await self._wake.wait(TICK_SECONDS)

    async def drain(self, seconds: float) -> bool:
        """Wait for the receives under way; False if that takes longer than `seconds`."""
        if self._polls:
            await asyncio.wait(self._polls.values(), timeout=seconds)
        return not self._polls

    def _wants(self, model: str) -> bool:
        """Say whether lines of a model could begin here soon, beyond those at hand."""
        is_paused = self._clock.monotonic() < self._paused_until.get(model, 0.0)
        if is_paused or self._breakers.is_open(model):
            return False
        return self._feed.has_room and self._feed.left < self._slots.limit

    async def _poll(self, model: str) -> None:
        try:
            deliveries = await self._queue.receive(
                self._urls[model],
                limit=1,
                wait_seconds=self._poll_seconds,
                visibility_timeout_seconds=self._visibility_timeout_seconds,
            )
            self._failures = 0
        except Unavailable as error:
            self._pause(model, PAUSES.seconds(self._failures))
            self._failures += 1
            log.warning("A queue of batches does not answer: %s model=%s", error, model)
            return
        for delivery in deliveries:
            if self._failed_tasks.has(delivery):
                self._pause(model, ASIDE_SECONDS)
                await self._return(delivery)
            elif self._wants(model):
                await self._runner.start(delivery)
            else:
                await self._return(delivery)

    async def _return(self, delivery: Delivery) -> None:
        try:
            await self._queue.change_visibility([delivery], 0)
        except Unavailable:
            log.warning("A message of a batch could not be handed back.")

    def _pause(self, model: str, seconds: float) -> None:
        self._paused_until[model] = self._clock.monotonic() + seconds

    def _ended(self, model: str, poll: asyncio.Task[None]) -> None:
        self._polls.pop(model, None)
        self._wake.set()
        if not poll.cancelled() and (error := poll.exception()) is not None:
            log.error("A poll failed because of a bug in InferLine.", exc_info=error)
