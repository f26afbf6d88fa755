"""One attempt at a task: store the answer, end the task, then delete its message."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from inferline.background import Backoff
from inferline.errors import LeaseLost, ProviderLost, Unavailable
from inferline.tasks.queue import Delivery, Message
from inferline.tasks.task import Task, TaskRef
from inferline_provider.backend.classification import Finish, failure
from inferline_provider.faults import Busy, Fault
from inferline_provider.serve.attempt_context import AttemptContext
from inferline_provider.serve.claim import let_go
from inferline_provider.serve.exchange import Exchange
from inferline_provider.serve.leases import Stop
from inferline_provider.serve.next_step import Circumstances, HandBack, next_step
from inferline_provider.telemetry.attempts import AttemptEnding, AttemptTelemetry

log = logging.getLogger(__name__)

#: The first and the longest pause after a write that failed, seconds.
PAUSE_SECONDS: Final = (0.1, 2.0)

#: How an attempt ends; None: its deadline passed, or it was stopped.
_End = Finish | HandBack | None


class Attempt:
    """
    One attempt, from its claim to the end of its message.

    Order matters: the task's row ends first, its message goes afterwards. A provider that receives
    the message of an ended task deletes it, but nobody would find a live task without one.
    """

    def __init__(
        self,
        context: AttemptContext,
        task: Task,
        message: Message,
        delivery: Delivery,
        confirmed_at: float,
        *,
        gives_way: bool = False,
    ) -> None:
        """Begin no attempt yet. With `gives_way` it may be suspended for a better task."""
        self.task = task
        self.delivery = delivery
        self.confirmed_at = confirmed_at
        self._context = context
        self._stream = context.writer.open(task)
        self._telemetry = AttemptTelemetry(
            context.telemetry, task, context.provider, context.clock, context.store.now_ms
        )
        self._exchange = Exchange(
            context, task, message, self._stream, self._telemetry, gives_way=gives_way
        )
        self._ending: AttemptEnding = "broken"
        self._stopped: Stop | None = None
        self._is_served = False
        #: Whether the backend answered the task, and refused nothing.
        self.is_answered = False
        self._serving: asyncio.Task[_End] | None = None

    @property
    def ref(self) -> TaskRef:
        """Return the task's reference."""
        return self.task.ref

    @property
    def can_be_suspended(self) -> bool:
        """Return True if the answer could go on later where it is now."""
        is_serving = not self._is_served and self._stopped is None
        return is_serving and self._exchange.can_be_suspended

    @property
    def tokens(self) -> int:
        """Return how many tokens of the answer have come."""
        return self._exchange.tokens

    @property
    def is_suspended(self) -> bool:
        """Return True if the task made room: its slot has another one."""
        return self._stopped is Stop.SUSPENDED

    @property
    def has_handed_back(self) -> bool:
        """Return True if the task waits for its next attempt."""
        return self._ending == "handed_back"

    def suspend(self) -> None:
        """Stop at once, and hand the task back without its message."""
        self.abort(Stop.SUSPENDED)

    def abort(self, stop: Stop) -> None:
        """Stop at once, and with it the backend's work. Repeats do nothing."""
        if self._stopped is not None or (stop is Stop.DRAINED and self._is_served):
            return
        self._stopped = stop
        if not self._is_served:
            if stop in (Stop.DRAINED, Stop.SUSPENDED):
                self._stream.hold()
            else:
                self._stream.discard()
            if self._serving is not None:
                self._serving.cancel()

    async def run(self, served: Callable[[], None]) -> None:
        """Run the attempt. `served` is called as soon as the backend has room again."""
        self._context.leases.hold(self)
        try:
            try:
                end = await self._serve_or_stop()
                self.is_answered = _is_answer(end)
            finally:
                self._is_served = True
                served()
            await self._write_end(await self._write_answer(end))
        finally:
            self._context.leases.drop(self)
            self._telemetry.ended(self._ending)

    async def _serve_or_stop(self) -> _End:
        """Return how the attempt ends."""
        if self._stopped is not None:
            return None
        self._serving = asyncio.create_task(self._serve())
        try:
            await asyncio.wait({self._serving})
        finally:
            self._serving.cancel()
        if self._serving.cancelled() or self._stopped is not None:
            return None
        return self._serving.result()

    async def _serve(self) -> _End:
        task, breakers = self.task, self._context.diagnosis.breakers
        left_seconds = (task.deadline_ms - self._context.store.now_ms()) / 1000
        breakers.begin(task.model, task.ref)
        try:
            async with asyncio.timeout(left_seconds) as deadline:
                return await self._exchange.run()
        except TimeoutError:
            if not deadline.expired():
                raise
            return None
        except Fault as fault:
            return self._after(fault)
        except Unavailable:
            self._stream.hold()
            log.warning("An attempt failed: a store does not answer. task=%s", task.ref.id)
            if self._exchange.is_stuck:
                return Finish(failure(ProviderLost()))
            return HandBack(counts=True, delay_seconds=1)
        finally:
            breakers.end(task.model, task.ref)

    def _after(self, fault: Fault) -> _End:
        """Return the next step after a fault, once the parts that it concerns have noted it."""
        context, task, exchange = self._context, self.task, self._exchange
        failed_tasks = context.failed_tasks
        self._stream.hold()
        begun = exchange.is_seen
        refused = failed_tasks.refuse(task.ref) if isinstance(fault, Busy) else None
        failed_tasks.add(task.ref, briefly=begun or isinstance(fault, Busy))
        log.warning("An attempt failed. %s task=%s", fault, task.ref.id)
        has_good_key = context.diagnosis.has_good_key
        context.diagnosis.conclude(task, fault, again=refused is not None)
        unfit = self._unfit
        circumstances = Circumstances(
            attempt=task.attempt,
            attempts_left=task.attempts_left,
            begun=begun,
            stuck=exchange.is_stuck,
            peers=failed_tasks.peers(task.ref),
            refused_seconds=refused,
            busy_seconds_max=context.terms.busy_seconds_max,
            has_good_key=has_good_key,
            unfit=unfit,
            others=failed_tasks.others(task.ref, unfit - {context.provider}, exchange.writer),
            pauses=context.pauses,
        )
        return next_step(fault, circumstances)

    @property
    def _unfit(self) -> frozenset[str]:
        """
        Return providers that can't go on with the answer: some said so, one may be lost with it.
        """
        writer = self._exchange.writer
        lost = {writer} if writer and self.task.lapsed_ms else set()
        return frozenset({self._context.provider, *self.task.unfit.split(), *lost})

    async def _write_answer(self, end: _End) -> _End:
        """Write the answer but for its last piece, which rides on the write that ends the task."""
        if self._stopped is Stop.SUSPENDED:
            kept_seconds = self._context.leases.visibility_timeout_seconds
            end = HandBack(counts=False, delay_seconds=kept_seconds)
        elif self._stopped is Stop.DRAINED:
            # A started answer can't restart on another provider.
            is_stuck = self._exchange.is_stuck
            end = Finish(failure(ProviderLost())) if is_stuck else HandBack(counts=False)
        if not isinstance(end, Finish):
            if isinstance(end, HandBack) and self._stream.begun:
                with suppress(Unavailable):  # Then the next attempt does that again.
                    await self._stream.flush()
            self._stream.discard()
            return end
        try:
            chunks, tail = await self._stream.close(end.rest)
        except Unavailable:
            log.warning("An answer can't be written. task=%s", self.task.ref.id)
            self._stream.discard()
            if self._exchange.can_go_on:
                return HandBack(counts=True, delay_seconds=1)
            return Finish(failure(ProviderLost()))
        return Finish(replace(end.outcome, chunks=chunks, tail=tail))

    async def _write_end(self, end: _End) -> None:
        """Write the end of the attempt, again if need be, for as long as the lease is ours."""
        failures = 0
        while self._stopped in (None, Stop.DRAINED, Stop.SUSPENDED):
            try:
                return await self._write_end_once(end)
            except LeaseLost:
                self._ending = "lost"
                return await self._let_go()
            except Unavailable:
                log.warning("The end of a task can't be written yet. task=%s", self.task.ref.id)
            await self._context.clock.sleep(Backoff(*PAUSE_SECONDS).seconds(failures))
            failures += 1
        log.info("An attempt stopped: %s. task=%s", self._stopped.value, self.task.ref.id)
        self._ending = "ended" if self._stopped is Stop.ENDED else "lost"
        if self._stopped is not Stop.FENCED:
            await self._let_go()
        return None

    async def _write_end_once(self, end: _End) -> None:
        store, queue = self._context.store, self._context.queue
        if isinstance(end, HandBack):
            await store.hand_back(self.task, counts=end.counts, unfit=end.unfit)
            self._ending = "handed_back"
            return await queue.change_visibility([self.delivery], end.delay_seconds)
        if end is None:
            await store.expire(self.task.ref)
            self._ending = "expired"
        else:
            await store.finish(self.task, end.outcome)
            is_failed = end.outcome.error or end.outcome.status >= 500
            self._ending = "failed" if is_failed else "answered"
        return await queue.delete([self.delivery])

    async def _let_go(self) -> None:
        await let_go(self._context.store, self._context.queue, self.task.ref, self.delivery)


def _is_answer(end: _End) -> bool:
    return isinstance(end, Finish) and not end.outcome.error and end.outcome.status < 400
