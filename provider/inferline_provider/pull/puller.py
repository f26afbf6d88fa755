"""Fetches messages while there is room: never more than there are slots for, and never ahead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from inferline.clock import Clock
from inferline.errors import Unavailable
from inferline.tasks.queue import RECEIVE_MAX, Delivery, TaskQueue
from inferline_provider.backend.breaker import Breakers
from inferline_provider.backend.slots import Slots
from inferline_provider.pull.runner import AttemptRunner
from inferline_provider.pull.schedule import PendingReceive, PollSchedule, QueueState
from inferline_provider.pull.yielding import YieldPolicies
from inferline_provider.serve.failed_tasks import ASIDE_SECONDS, FailedTasks

log = logging.getLogger(__name__)

#: Between two looks at whether a pause is over; everything else wakes the puller by itself.
TICK_SECONDS: Final = 0.5
#: No queue is left alone for less.
TICK_SECONDS_MIN: Final = 0.001


class Puller:
    """
    Asks the queues, by the rota, while the backend is open for work.

    A receive that is out is never cancelled: the messages it may bring would stay hidden for a
    lease. What it brings beyond the free slots, after a stop, or what other providers should have
    goes back at once.
    """

    def __init__(
        self,
        queue: TaskQueue,
        rota: PollSchedule,
        slots: Slots,
        crew: AttemptRunner,
        clock: Clock,
        handicaps: YieldPolicies,
        passes: FailedTasks,
        breakers: Breakers,
        now_ms: Callable[[], int],
        *,
        poll_seconds: int,
        visibility_timeout_seconds: int,
    ) -> None:
        self._queue = queue
        self._rota = rota
        self._slots = slots
        self._crew = crew
        self._clock = clock
        self._handicaps = handicaps
        self._passes = passes
        self._breakers = breakers
        self._now_ms = now_ms
        self._poll_seconds = poll_seconds
        self._hidden_seconds = visibility_timeout_seconds
        self._is_open = False
        self._wake = asyncio.Event()
        self._receives: set[asyncio.Task[None]] = set()

    def poke(self) -> None:
        """Look again: there is a free slot, or another queue."""
        self._wake.set()

    def set_open(self, is_open: bool) -> None:
        """Fetch messages, or stop fetching."""
        self._is_open = is_open
        self._wake.set()

    async def run(self) -> None:
        """Fetch for ever."""
        while True:
            self._wake.clear()
            if self._is_open and self._slots.free:
                self._ask()
            due = min(TICK_SECONDS, self._rota.due(self._clock.monotonic()))
            seconds = max(TICK_SECONDS_MIN, due)
            timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    async def drain(self, seconds: float) -> bool:
        """Wait for the receives that are out; False if that takes longer than `seconds`."""
        self.set_open(False)
        if self._receives:
            await asyncio.wait(self._receives, timeout=seconds)
        return not self._receives

    def _ask(self) -> None:
        """
        Wait at every cold queue, and ask the hot ones in their turns for as much as there is room.

        The cold ones first: under load the hot one takes every slot, and then nobody would hear
        of work that comes to another queue. What that brings goes back, but the queue is hot then.
        """
        now = self._clock.monotonic()
        for cold in self._rota.cold(now):
            limit = min(self._slots.free, RECEIVE_MAX)
            self._start(self._rota.begin(cold, limit, now, waits=True))
        while (turn := self._rota.hottest(now, self._slots.free)) is not None:
            hot, limit = turn
            # Taken ahead, so that what a cold queue brings meanwhile does not count on them.
            self._start(self._rota.begin(hot, self._slots.take(limit), now, waits=False))

    def _start(self, receive: PendingReceive) -> None:
        task = asyncio.create_task(self._receive(receive))
        self._receives.add(task)
        task.add_done_callback(self._ended)

    async def _receive(self, receive: PendingReceive) -> None:
        deliveries: list[Delivery] = []
        asked_ms = self._now_ms()
        try:
            deliveries = await self._queue.receive(
                receive.place.url,
                limit=receive.limit,
                wait_seconds=self._poll_seconds if receive.waits else 0,
                visibility_timeout_seconds=self._hidden_seconds,
            )
            times = [delivery.sent_ms for delivery in deliveries]
            self._rota.came(receive, times, self._clock.monotonic())
        except Unavailable as error:
            self._rota.failed(receive, self._clock.monotonic())
            log.warning("A queue does not answer: %s queue=%s", error, receive.place.url)
        finally:
            rest = self._begin(receive, deliveries, asked_ms)
            self._wake.set()
        if rest:
            await self._hand_back(rest)

    def _begin(
        self, receive: PendingReceive, deliveries: Sequence[Delivery], asked_ms: int
    ) -> list[Delivery]:
        """Begin what is wanted, as far as there are slots, and return the rest."""
        taken = 0 if receive.waits else receive.limit
        passed = [delivery for delivery in deliveries if self._passes.has(delivery)]
        wanted = [delivery for delivery in deliveries if delivery not in passed]
        if passed:
            self._rota.leave(receive.place, self._clock.monotonic() + ASIDE_SECONDS)
        if not self._is_open or self._leaves(receive.place, wanted, asked_ms):
            passed, wanted = [*passed, *wanted], []
        room = self._breakers[receive.place.model].room
        passed, wanted = [*passed, *wanted[room:]], wanted[:room]
        if len(wanted) > taken:
            taken += self._slots.take(len(wanted) - taken)
        begun = min(len(wanted), taken)
        self._slots.spare(taken - begun)
        for delivery in wanted[:begun]:
            self._crew.start(delivery)
        return [*passed, *wanted[begun:]]

    def _leaves(self, place: QueueState, deliveries: Sequence[Delivery], asked_ms: int) -> bool:
        """Say whether faster providers are to have these, and leave their queue alone if so."""
        sent_ms = [delivery.sent_ms for delivery in deliveries]
        seconds = self._handicaps[place.model].judge(sent_ms, asked_ms, self._now_ms())
        if seconds:
            self._rota.leave(place, self._clock.monotonic() + seconds)
        return seconds > 0

    async def _hand_back(self, deliveries: Sequence[Delivery]) -> None:
        try:
            await self._queue.change_visibility(deliveries, 0)
        except Unavailable:
            log.warning("Messages could not be handed back. messages=%d", len(deliveries))

    def _ended(self, receive: asyncio.Task[None]) -> None:
        self._receives.discard(receive)
        if not receive.cancelled() and (error := receive.exception()) is not None:
            log.error("A receive broke by a fault of ours.", exc_info=error)
