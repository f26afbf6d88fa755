"""Leases of running attempts: renewed in time, and the attempt stopped once one is lost."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from typing import Final, Protocol

from inferline.clock import Clock
from inferline.errors import LeaseLost, Unavailable
from inferline.tasks.queue import Delivery, TaskQueue
from inferline.tasks.store import TaskStatus, TaskStore
from inferline.tasks.task import State, Task

log = logging.getLogger(__name__)

#: Between two checks of our own clock against the leases.
FENCE_SECONDS: Final = 0.25
#: A lease counts as lost this share of its length early, so that nothing is under way at its end.
MARGIN_SHARE: Final = 0.15
#: It is renewed when this share of it has passed.
RENEW_SHARE: Final = 1 / 3
#: Share of its length between two tries to renew it.
TICK_SHARE: Final = 1 / 20
#: Renewals under way at once.
RENEWALS_MAX: Final = 32


class Stop(Enum):
    """Reasons to stop an attempt, as the log has them."""

    ENDED = "the task has ended, most likely because its client went away"
    LOST = "another attempt has the task now"
    FENCED = "its lease could not be renewed in time"
    DRAINED = "the provider is stopping"
    SUSPENDED = "it makes room for a better task"


class Held(Protocol):
    """A running attempt, as much of it as its lease needs."""

    task: Task
    delivery: Delivery
    #: When the lease was last known to begin, by our own clock.
    confirmed_at: float

    def abort(self, stop: Stop) -> None:
        """Stop at once. Repeats do nothing."""


class Leases:
    """The leases of all running attempts of this process."""

    def __init__(
        self,
        store: TaskStore,
        queue: TaskQueue,
        clock: Clock,
        lease_seconds: float,
        unread_task_seconds: float,
        cancel_seconds: float,
    ) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._unread_task_seconds = unread_task_seconds
        self._cancel_seconds = cancel_seconds
        self._held: set[Held] = set()
        self._tried_at: dict[Held, float] = {}
        #: Held while a write is under way that has the progress of a task: they must not overtake
        #: each other.
        self._writing: dict[Held, asyncio.Lock] = {}

    @property
    def lease_seconds(self) -> float:
        """Return how long a claim, or a renewal, is valid."""
        return self._lease_seconds

    @property
    def visibility_timeout_seconds(self) -> int:
        """
        Return the visibility timeout of messages: longer than a lease, so that a receiver may
        claim.
        """
        return math.ceil(self._lease_seconds) + 1

    def hold(self, held: Held) -> None:
        """Renew the attempt's lease from now on."""
        self._held.add(held)
        self._tried_at[held] = held.confirmed_at
        self._writing[held] = asyncio.Lock()

    def drop(self, held: Held) -> None:
        """Renew the attempt's lease no more."""
        self._held.discard(held)
        self._tried_at.pop(held, None)
        self._writing.pop(held, None)

    async def commit(self, held: Held, task: Task) -> None:
        """
        Write the progress that `task` has of the held one, and renew its lease with that.

        Raises LeaseLost or Unavailable: then the progress may be written or not.
        """
        async with self._writing[held]:
            begun_at = self._clock.monotonic()
            row = await self._store.renew(task, self._lease_seconds)
            held.task = replace(task, deadline_ms=row.deadline_ms)
            held.confirmed_at = begun_at

    async def renewing(self) -> None:
        """Renew leases for ever."""
        while True:
            await self._clock.sleep(self._lease_seconds * TICK_SHARE)
            await self.renew_due()

    async def watching(self) -> None:
        """Check for cancelled tasks for ever."""
        while True:
            await self._clock.sleep(self._cancel_seconds)
            await self.check()

    async def fencing(self) -> None:
        """Check our own clock for ever, in a loop of its own: the others may wait for the store."""
        while True:
            await self._clock.sleep(min(FENCE_SECONDS, self._lease_seconds * TICK_SHARE))
            self.fence()

    async def renew_due(self) -> None:
        """Renew the leases of which a third has passed, and their messages' visibility timeouts."""
        since = self._clock.monotonic() - self._lease_seconds * RENEW_SHARE
        due = [held for held in self._held if self._tried_at[held] <= since]
        for start in range(0, len(due), RENEWALS_MAX):
            group = due[start : start + RENEWALS_MAX]
            renewed = await asyncio.gather(*map(self._renew, group))
            await self._extend_visibility(
                [held for held, ok in zip(group, renewed, strict=True) if ok]
            )

    async def check(self) -> None:
        """
        Read the state of all running tasks; stop those that have ended, were lost or are unread.
        """
        attempts = list(self._held)
        if not attempts:
            return
        try:
            states = await self._store.statuses([held.task.ref for held in attempts])
        except Unavailable:
            return  # A cancel then shows later, or when the lease can't be renewed.
        unread = []
        before_ms = self._store.now_ms() - round(self._unread_task_seconds * 1000)
        for held in attempts:
            status = states.get(held.task.ref, TaskStatus(State.QUEUED, 0, 0))
            # The read may be older than our claim. Attempts only grow, and an end is for good.
            if status.attempt > held.task.attempt:
                held.abort(Stop.LOST)
            elif status.state.terminal:
                held.abort(Stop.ENDED)
            elif 0 < status.reader_ms < before_ms:
                unread.append(held)
        await asyncio.gather(*(self._orphan(held, before_ms) for held in unread))

    async def _orphan(self, held: Held, before_ms: int) -> None:
        """Stop a task whose gateway and client are gone, unless somebody reads it after all."""
        with suppress(Unavailable):  # The next check tries again.
            if await self._store.cancel_unread(held.task.ref, before_ms):
                log.info("A task is stopped: nobody reads its answer. task=%s", held.task.ref.id)
                held.abort(Stop.ENDED)

    def fence(self) -> None:
        """Stop attempts whose lease is about to end by our own clock, whatever the store says."""
        before = self._clock.monotonic() - self._lease_seconds * (1 - MARGIN_SHARE)
        for held in [held for held in self._held if held.confirmed_at < before]:
            held.abort(Stop.FENCED)

    async def _renew(self, held: Held) -> bool:
        if held not in self._held:
            return False
        begun_at = self._tried_at[held] = self._clock.monotonic()
        try:
            async with self._writing[held]:
                row = await self._store.renew(held.task, self._lease_seconds)
                if row.deadline_ms < held.task.deadline_ms:
                    held.task = replace(held.task, deadline_ms=row.deadline_ms)
        except LeaseLost:
            held.abort(Stop.LOST)
            return False
        except Unavailable:
            if held in self._tried_at:  # Try again at the next tick.
                self._tried_at[held] = begun_at - self._lease_seconds * RENEW_SHARE
            return False
        held.confirmed_at = begun_at
        return held in self._held

    async def _extend_visibility(self, renewed: Sequence[Held]) -> None:
        if not renewed:
            return
        try:
            await self._queue.change_visibility(
                [held.delivery for held in renewed], self.visibility_timeout_seconds
            )
        except Unavailable:
            # A provider that receives the message meanwhile leaves it alone, as its lease holds.
            log.warning(
                "The visibility timeout of messages could not be renewed. tasks=%d", len(renewed)
            )
