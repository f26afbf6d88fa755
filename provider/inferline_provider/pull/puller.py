"""Polling: receives messages while slots are free, and never more than that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from inferline.clock import Clock
from inferline.errors import Unavailable
from inferline.tasks.queue import RECEIVE_MAX, Delivery, TaskQueue
from inferline.tasks.task import Tier
from inferline_provider.backend.breaker import Breakers
from inferline_provider.backend.slots import Slots
from inferline_provider.pull.runner import AttemptRunner
from inferline_provider.pull.schedule import PendingReceive, PollSchedule, QueueState
from inferline_provider.pull.suspension import BEST, LOWEST, Suspension
from inferline_provider.pull.yielding import YieldPolicies
from inferline_provider.serve.failed_tasks import ASIDE_SECONDS, FailedTasks

log = logging.getLogger(__name__)

#: Longest time between two turns of the loop; every change but the end of a pause wakes it.
TICK_SECONDS: Final = 0.5
#: Shortest time between two turns because of a pause.
TICK_SECONDS_MIN: Final = 0.001


class Puller:
    """
    A consumer of the queues: it polls by the schedule while the backend can work.

    A receive is never cancelled: its messages would stay invisible until their visibility timeout
    ends. Messages beyond the free slots, after a stop, or for other providers go back at once.
    """

    def __init__(
        self,
        queue: TaskQueue,
        schedule: PollSchedule,
        slots: Slots,
        runner: AttemptRunner,
        suspension: Suspension,
        clock: Clock,
        yield_policies: YieldPolicies,
        failed_tasks: FailedTasks,
        breakers: Breakers,
        now_ms: Callable[[], int],
        *,
        poll_seconds: int,
        visibility_timeout_seconds: int,
    ) -> None:
        self._queue = queue
        self._schedule = schedule
        self._slots = slots
        self._runner = runner
        self._suspension = suspension
        suspension.on_kept = self._kept
        self._clock = clock
        self._yield_policies = yield_policies
        self._failed_tasks = failed_tasks
        self._breakers = breakers
        self._now_ms = now_ms
        self._poll_seconds = poll_seconds
        self._visibility_timeout_seconds = visibility_timeout_seconds
        self._is_open = False
        self._wake = asyncio.Event()
        self._receives: set[asyncio.Task[None]] = set()

    def poke(self) -> None:
        """Wake up: a slot is free, or there is another queue."""
        self._wake.set()

    def set_open(self, is_open: bool) -> None:
        """Receive messages, or stop."""
        self._is_open = is_open
        if not is_open:
            self._release_kept()
        self._wake.set()

    async def run(self) -> None:
        """Receive messages for ever."""
        while True:
            self._wake.clear()
            self._suspension.look()
            if self._is_open and (self._slots.free or self._suspension.room):
                self._poll()
                self._resume()
            pause_seconds = self._schedule.pause_seconds(self._clock.monotonic())
            pause_seconds = min(pause_seconds, self._suspension.wait_seconds)
            seconds = max(TICK_SECONDS_MIN, min(TICK_SECONDS, pause_seconds))
            timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    async def drain(self, seconds: float) -> bool:
        """Wait for the receives under way; False if that takes longer than `seconds`."""
        self.set_open(False)
        if self._receives:
            await asyncio.wait(self._receives, timeout=seconds)
        return not self._receives

    def _poll(self) -> None:
        """
        Begin a long poll at every cold queue, and poll the hot ones in turns while slots are free.

        The cold ones first: under load the hot one takes every slot, and then nobody would notice
        work in another queue. Its messages go back, but that queue is hot then.
        """
        now = self._clock.monotonic()
        for cold in self._schedule.cold(now):
            if limit := min(self._free(cold.tier), RECEIVE_MAX):
                self._start(self._receive(self._schedule.begin(cold, limit, now, waits=True)))
        while (turn := self._next_hot(now)) is not None:
            hot, limit = turn
            # Slots are taken now, so that a message of a cold queue can't have them meanwhile.
            reserved = self._slots.reserve(limit)
            receive = self._schedule.begin(hot, limit, now, waits=False)
            self._start(self._receive(receive, reserved))

    def _next_hot(self, now: float) -> tuple[QueueState, int] | None:
        return self._schedule.next_hot(now, self._free(BEST), lowest=self._free(LOWEST))

    def _free(self, tier: Tier) -> int:
        """
        Return how many tasks of a tier may begin.

        For better ones others are suspended, and of the lowest those that were go on first.
        """
        if tier == LOWEST:
            return max(0, self._slots.free - self._suspension.kept)
        return self._slots.free + self._suspension.room

    def _resume(self) -> None:
        """Have suspended tasks go on in slots that nothing better needs."""
        while (delivery := self._suspension.next()) is not None:
            self._runner.start(delivery, gives_way=True)

    def _kept(self) -> None:
        """Have a suspended task go on here, or elsewhere if no more tasks begin here."""
        if not self._is_open:
            self._release_kept()
        self._wake.set()

    def _release_kept(self) -> None:
        if kept := list(self._suspension.release()):
            self._start(self._hand_back(kept))

    def _start(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(call)
        self._receives.add(task)
        task.add_done_callback(self._ended)

    async def _receive(self, receive: PendingReceive, reserved: int = 0) -> None:
        deliveries: list[Delivery] = []
        polled_ms = self._now_ms()
        try:
            deliveries = await self._queue.receive(
                receive.state.url,
                limit=receive.limit,
                wait_seconds=self._poll_seconds if receive.waits else 0,
                visibility_timeout_seconds=self._visibility_timeout_seconds,
            )
            times = [delivery.sent_ms for delivery in deliveries]
            self._schedule.received(receive, times, self._clock.monotonic())
        except Unavailable as error:
            self._schedule.failed(receive, self._clock.monotonic())
            log.warning("A queue does not answer: %s queue=%s", error, receive.state.url)
        finally:
            rest = self._begin(receive, deliveries, polled_ms, reserved)
            self._wake.set()
        if rest:
            await self._hand_back(rest)

    def _begin(
        self,
        receive: PendingReceive,
        deliveries: Sequence[Delivery],
        polled_ms: int,
        reserved: int,
    ) -> list[Delivery]:
        """Begin the wanted tasks, as far as slots are free, and return the other messages."""
        taken, tier = reserved, receive.state.tier
        passed = [delivery for delivery in deliveries if self._failed_tasks.has(delivery)]
        wanted = [delivery for delivery in deliveries if delivery not in passed]
        if passed:
            self._schedule.pause(receive.state, self._clock.monotonic() + ASIDE_SECONDS)
        if not self._is_open or self._yields(receive.state, wanted, polled_ms):
            passed, wanted = [*passed, *wanted], []
        room = self._breakers[receive.state.model].room
        passed, wanted = [*passed, *wanted[room:]], wanted[:room]
        if len(wanted) > taken:
            taken += self._slots.take(min(len(wanted) - taken, self._free(tier)))
        if tier != LOWEST:
            taken += self._suspension.make_room(len(wanted) - taken)
        begun = min(len(wanted), taken)
        self._slots.release_unneeded(taken - begun, reserved)
        # Not one whose turn has come although better work waits: it would never end.
        gives_way = tier == LOWEST and not self._schedule.has_better(tier)
        for delivery in wanted[:begun]:
            self._runner.start(delivery, gives_way=gives_way)
        return [*passed, *wanted[begun:]]

    def _yields(self, state: QueueState, deliveries: Sequence[Delivery], polled_ms: int) -> bool:
        """Say whether faster providers should have the messages; pause the queue if so."""
        sent_ms = [delivery.sent_ms for delivery in deliveries]
        seconds = self._yield_policies[state.model].yield_seconds(
            sent_ms, polled_ms, self._now_ms()
        )
        if seconds:
            self._schedule.pause(state, self._clock.monotonic() + seconds)
        return seconds > 0

    async def _hand_back(self, deliveries: Sequence[Delivery]) -> None:
        try:
            await self._queue.change_visibility(deliveries, 0)
        except Unavailable:
            log.warning("Messages could not be handed back. messages=%d", len(deliveries))

    def _ended(self, receive: asyncio.Task[None]) -> None:
        self._receives.discard(receive)
        if not receive.cancelled() and (error := receive.exception()) is not None:
            log.error("A receive failed because of a bug in InferLine.", exc_info=error)
