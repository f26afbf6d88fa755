"""One attempt at a shard: read its lines, have them answered, commit the results, end the task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import inf
from typing import Final

from inferline.background import Backoff, Wake
from inferline.errors import BackendFailed, LeaseLost, Unavailable
from inferline.tasks.queue import Delivery, Message
from inferline.tasks.shard import segment_key
from inferline.tasks.store import AttemptOutcome
from inferline.tasks.task import Task, TaskRef
from inferline_provider.backend.classification import failure
from inferline_provider.batch.batch_context import BatchContext
from inferline_provider.batch.lines import Line, lines_of
from inferline_provider.batch.progress import ShardProgress
from inferline_provider.batch.work import ShardWork
from inferline_provider.serve.claim import let_go
from inferline_provider.serve.exchange import DAMAGED
from inferline_provider.serve.leases import Stop

log = logging.getLogger(__name__)

#: Time between two commits, seconds.
COMMIT_SECONDS: Final = 15.0
#: With so many results the next commit comes earlier, but not at once: short lines end together.
COMMIT_RESULTS: Final = 64
COMMIT_SECONDS_MIN: Final = 3.0
#: With so many bytes it comes at once.
COMMIT_BYTES: Final = 8 * 1024 * 1024
#: The first and the longest pause after a call to AWS that failed; it doubles, seconds.
PAUSES: Final = Backoff(0.2, 10.0)
#: Time for which the input is read again and again, seconds.
INPUT_SECONDS_MAX: Final = 60.0
#: Pause of a shard after that, seconds.
UNREAD_DELAY_SECONDS: Final = 30
#: A shard goes to another provider after so long without a line at the backend, seconds.
STALLED_SECONDS: Final = 60.0
#: Tries to write results while the provider stops.
LAST_TRIES_MAX: Final = 2


class ShardAttempt:
    """
    One attempt, from its claim to the end of its message.

    Results become objects first, and count once the task's row lists these. So what an attempt
    writes after it has lost its lease is nowhere to be seen.
    """

    def __init__(
        self,
        context: BatchContext,
        task: Task,
        message: Message,
        delivery: Delivery,
        confirmed_at: float,
    ) -> None:
        self.task = task
        #: The deadline of its batch. A nearer one means that the batch is cancelled.
        self._first_deadline_ms = task.deadline_ms
        self.delivery = delivery
        self.confirmed_at = confirmed_at
        self._context = context
        self._clock = context.attempts.clock
        self._message = message
        self._wake = Wake(self._clock)
        self._stopped: Stop | None = None
        self._committed_at = self._idle_since = self._clock.monotonic()
        self._failures = 0
        self._retry_at = -inf
        self._work: ShardWork | None = None
        #: Set once its lines are known, or will not be.
        self.loaded = asyncio.Event()

    def abort(self, stop: Stop) -> None:
        """Stop at once, and with it the backend's work. Repeats do nothing."""
        if self._stopped is None:
            self._stopped = stop
            if self._work is not None:
                self._context.feed.remove(self._work)
            self._wake.set()

    def poke(self) -> None:
        """Look again: something has changed."""
        self._wake.set()

    async def run(self) -> None:
        """Run the attempt."""
        self._context.leases.hold(self)
        try:
            lines = await self._read()
            self._work = self._new_work(lines) if lines else None
            ending: Callable[[], Awaitable[None]]
            if self._work is None:
                ending = self._hand_back if lines is None else self._fail
            else:
                ending = await self._run_lines(self._work)
            await self._end(ending)
        finally:
            self.loaded.set()
            self._context.leases.drop(self)
            if self._work is not None:
                self._context.feed.remove(self._work)

    async def _read(self) -> list[Line] | None:
        """Return the lines; none if the input is damaged, None if it can't be read now."""
        until, failures = self._clock.monotonic() + INPUT_SECONDS_MAX, 0
        while self._stopped is None and self._clock.monotonic() < until:
            try:
                data = await self._context.objects.get(self._message.body_key or "")
            except Unavailable:
                log.warning("The lines of a batch can't be read yet. task=%s", self.task.ref.id)
                await self._wake.wait(PAUSES.seconds(failures))
                failures += 1
                continue
            # In pieces between which others go on: it may be four megabytes.
            return await asyncio.to_thread(lines_of, self.task, data)
        return None

    def _new_work(self, lines: list[Line]) -> ShardWork:
        """Return the work that is left, once lines that were lost too often are given up."""
        task = self.task
        assert task.shard is not None
        is_after_loss = bool(task.lapsed_ms)
        progress = ShardProgress(task.shard, task.attempt, is_after_loss=is_after_loss)
        work = ShardWork(
            task,
            lines,
            progress,
            self._wake.set,
            is_careful=is_after_loss or any(progress.losses[n] for n in progress.undone),
        )
        for run in [run for run in work.waiting if work.is_given_up(run)]:
            self._context.lines.give_up(run)
        return work

    async def _run_lines(self, work: ShardWork) -> Callable[[], Awaitable[None]]:
        """Have the lines answered, and commit results meanwhile; return how the attempt ends."""
        feed, now_ms = self._context.feed, self._context.attempts.store.now_ms
        if self._stopped is None:
            feed.add(work)
        self.loaded.set()
        while self._stopped is None:
            if work.is_done:
                return self._finish
            if self.task.deadline_ms < self._first_deadline_ms:
                feed.remove(work)
                return self._cancel
            if self.task.deadline_ms <= now_ms():
                feed.remove(work)
                return self._expire
            if self._is_to_hand_back(work):
                break
            commit_seconds = self._commit_seconds(work)
            if commit_seconds <= 0:
                await self._try_to_commit(work)
                continue
            left_seconds = (self.task.deadline_ms - now_ms()) / 1000
            seconds = min(commit_seconds, left_seconds, STALLED_SECONDS)
            await self._wake.wait(max(0.0, seconds))
        feed.remove(work)
        return self._hand_back

    def _is_to_hand_back(self, work: ShardWork) -> bool:
        """Say whether other providers should go on: this one stops, or has no room for long."""
        now, ref = self._clock.monotonic(), self.task.ref
        if work.running:
            self._idle_since = now
            return False
        if self._context.feed.is_draining:
            return True
        failed_tasks = self._context.attempts.failed_tasks
        if now - self._idle_since < STALLED_SECONDS or not failed_tasks.peers(ref):
            return False
        failed_tasks.add(ref)
        return True

    def _commit_seconds(self, work: ShardWork) -> float:
        """Return the time until the next commit."""
        now, progress = self._clock.monotonic(), work.progress
        if work.is_stuck:
            return self._retry_at - now
        if not (progress.pending or work.running):
            return STALLED_SECONDS
        if progress.bytes > COMMIT_BYTES:
            pause = 0.0
        else:
            pause = COMMIT_SECONDS_MIN if progress.pending >= COMMIT_RESULTS else COMMIT_SECONDS
        return max(self._committed_at + pause, self._retry_at) - now

    async def _try_to_commit(self, work: ShardWork) -> None:
        """Commit the results so far; a failure is repeated later, while the lease holds."""
        begun = work.to_announce(self._context.slots.limit)
        try:
            await self._put(work.progress)
            if self._stopped is not None:
                return None
            shard = work.progress.at(begun)
            await self._context.leases.commit(self, replace(self.task, shard=shard))
        except LeaseLost:
            return self.abort(Stop.LOST)
        except Unavailable:
            log.warning("Results of a batch can't be written yet. task=%s", self.task.ref.id)
            self._retry_at = self._clock.monotonic() + PAUSES.seconds(self._failures)
            self._failures += 1
            return None
        self._failures, self._committed_at = 0, self._clock.monotonic()
        work.progress.committed()
        work.announced(begun)
        return self._context.feed.poke()

    async def _put(self, progress: ShardProgress) -> None:
        """Write the results that are not committed as objects. Raises Unavailable."""
        shard, cut = self.task.shard, progress.cut()
        if cut is None or shard is None:
            return
        for segment, data in cut.segments:
            key = segment_key(self.task.ref.slug, shard.batch, shard.number, segment)
            await self._context.objects.put(key, data)

    async def _end(self, ending: Callable[[], Awaitable[None]]) -> None:
        """Write the end of the attempt, again if need be, for as long as the lease is ours."""
        failures = 0
        while self._stopped in (None, Stop.DRAINED):
            try:
                return await ending()
            except LeaseLost:
                self._stopped = Stop.LOST
                break
            except Unavailable:
                log.warning("The end of a shard can't be written yet. task=%s", self.task.ref.id)
            failures += 1
            if self._stopped is Stop.DRAINED:
                ending = self._hand_back if failures < LAST_TRIES_MAX else self._hand_back_as_is
            await self._wake.wait(PAUSES.seconds(failures - 1))
        log.info("A shard's attempt stopped: %s. task=%s", self._stopped.value, self.task.ref.id)
        if self._stopped is not Stop.FENCED:
            context = self._context.attempts
            await let_go(context.store, context.queue, self.task.ref, self.delivery)
        return None

    async def _finish(self) -> None:
        context = self._context.attempts
        await context.store.finish(await self._last_task(), AttemptOutcome(status=200))
        await context.queue.delete([self.delivery])

    async def _fail(self) -> None:
        context, error = self._context.attempts, BackendFailed(DAMAGED, code="damaged_request")
        await context.store.finish(self.task, failure(error))
        await context.queue.delete([self.delivery])

    async def _expire(self) -> None:
        await self._end_early(self._context.attempts.store.expire)

    async def _cancel(self) -> None:
        await self._end_early(self._context.attempts.store.cancel)

    async def _end_early(self, end: Callable[[TaskRef], Awaitable[bool]]) -> None:
        """Commit what is done, and end the task without the rest."""
        await self._context.leases.commit(self, await self._last_task())
        await end(self.task.ref)
        await self._context.attempts.queue.delete([self.delivery])

    async def _hand_back(self) -> None:
        """Give the shard to whoever comes; later, if its lines can't be read."""
        is_unread = self._work is None and self._stopped is None
        await self._give(await self._last_task(), UNREAD_DELAY_SECONDS if is_unread else 0)

    async def _hand_back_as_is(self) -> None:
        await self._give(self.task, 0)

    async def _give(self, task: Task, delay_seconds: int) -> None:
        context = self._context.attempts
        await context.store.hand_back(task, counts=delay_seconds > 0)
        await context.queue.change_visibility([self.delivery], delay_seconds)

    async def _last_task(self) -> Task:
        """Return the task with all results, once these are written. Raises Unavailable."""
        if self._work is None:
            return self.task
        progress, task = self._work.progress, self.task
        while True:
            await self._put(progress)
            task = replace(task, shard=progress.at(()))
            if not progress.pending:
                return task
            progress.committed()
