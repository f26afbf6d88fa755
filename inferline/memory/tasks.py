"""
The seams in memory: what tests and trials run on, with the contracts of the real ones.

One process, one event loop. Time is the clock's, so that leases and hidden messages can be tested
without waiting; nothing here ever fails or loses anything by itself.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from inferline.clock import Clock, SystemClock
from inferline.errors import BackendFailed, LeaseLost, Unavailable
from inferline.names import slug
from inferline.tasks.queue import Delivery, Depth, Message
from inferline.tasks.store import (
    AttemptOutcome,
    Bound,
    Claimed,
    Refused,
    TaskRead,
    TaskStatus,
    Wanted,
)
from inferline.tasks.task import TIERS, Chunk, State, Task, TaskRef, Tier
from inferline.usage.minutes import Minute, MinuteMetrics


class Dates:
    """Dates that move with a clock: today's when it was made."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epoch_ms = time.time() * 1000 - clock.monotonic() * 1000

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self._epoch_ms + self._clock.monotonic() * 1000)


class MemoryStore:
    """A `TaskStore` in memory."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._dates = Dates(clock or SystemClock())
        self._tasks: dict[TaskRef, Task] = {}
        self._chunks: dict[tuple[TaskRef, int, int], Chunk] = {}
        self._bound: dict[tuple[str, str], tuple[Bound, int]] = {}
        #: The outcome each finished task was given, to tell a repeat from a second finish.
        self.outcomes: dict[TaskRef, AttemptOutcome] = {}

    def now_ms(self) -> int:
        """Milliseconds since 1970 by the store's clock."""
        return self._dates.now_ms()

    def task(self, ref: TaskRef) -> Task | None:
        """The row of a task, None where there is none (any more). For tests to look at."""
        found = self._tasks.get(ref)
        return found if found is not None and found.ttl * 1000 > self.now_ms() else None

    def chunks(self, ref: TaskRef, attempt: int) -> list[Chunk]:
        """All chunks of an attempt, in order. For tests to look at."""
        found = [c for key, c in self._chunks.items() if key[:2] == (ref, attempt)]
        return sorted(found, key=lambda chunk: chunk.seq)

    async def submit(self, task: Task) -> None:
        """Write a new task."""
        self._tasks.setdefault(task.ref, task)

    async def submit_once(
        self, task: Task, key: str, request: str, instead_of: str
    ) -> Bound | None:
        """Write a new task and bind a key to it."""
        bound = await self.binding(task.ref.slug, key)
        if bound is not None and bound.task_id not in (instead_of, task.ref.id):
            return bound
        self._bound[task.ref.slug, key] = Bound(task.ref.id, request), task.ttl
        await self.submit(task)
        return None

    async def binding(self, slug: str, key: str) -> Bound | None:
        """What a key is bound to."""
        bound, ttl = self._bound.get((slug, key), (None, 0))
        return bound if ttl * 1000 > self.now_ms() else None

    async def claim(self, ref: TaskRef, owner: str, lease_seconds: float) -> Claimed | Refused:
        """Begin an attempt."""
        task, now_ms = self.task(ref), self.now_ms()
        if task is None or task.state.terminal:
            return Refused(task)
        if task.deadline_ms <= now_ms:
            return Refused(self._put(task, state=State.EXPIRED))
        if task.lease_ms >= now_ms:
            return Refused(task)
        if task.attempts_left <= 0:
            error = BackendFailed("Every attempt at this request failed. Send it again later.")
            return Refused(self._put(task, state=State.FAILED, error=error.told()))
        return Claimed(
            self._put(
                task,
                state=State.RUNNING,
                attempt=task.attempt + 1,
                owner=owner,
                lease_ms=now_ms + round(lease_seconds * 1000),
                claimed_ms=now_ms,
                lapsed_ms=task.lease_ms,
            )
        )

    async def renew(self, task: Task, lease_seconds: float) -> None:
        """Prolong the lease."""
        self._put(self._held(task), lease_ms=self.now_ms() + round(lease_seconds * 1000))

    async def hand_back(
        self, task: Task, *, spared: bool, unfit: frozenset[str] = frozenset()
    ) -> None:
        """End the lease now."""
        held = self._held(task)
        names = " ".join(sorted(unfit)) or held.unfit
        self._put(held, lease_ms=0, attempt_limit=held.attempt_limit + spared, unfit=names)

    async def finish(self, task: Task, outcome: AttemptOutcome) -> None:
        """End the task."""
        row = self.task(task.ref)
        if row is not None and row.state.terminal and self._is_repeat(row, task, outcome):
            return
        held = self._held(task)
        self.outcomes[task.ref] = outcome
        self._put(
            held,
            state=State.FAILED if outcome.error else State.DONE,
            status=outcome.status,
            content_type=outcome.content_type,
            chunks=outcome.chunks,
            tail=outcome.tail,
            error=outcome.error,
            usage=outcome.usage,
            headers=outcome.headers,
        )

    async def renew_reader_lease(self, task: Task, reader: str, seconds: float) -> bool:
        """Take or renew the reader lease."""
        row = self.task(task.ref)
        if row is None or row.state.terminal:
            return False
        if reader != row.reader and task.reader_ms != row.reader_ms:
            return False
        self._put(row, reader=reader, reader_ms=self.now_ms() + round(seconds * 1000))
        return True

    async def cancel(self, ref: TaskRef, reader: str = "") -> bool:
        """Make a live task CANCELLED."""
        row = self.task(ref)
        if reader and row is not None and row.reader != reader:
            return False
        return self._end(ref, State.CANCELLED)

    async def cancel_unread(self, ref: TaskRef, before_ms: int) -> bool:
        """Make a live task CANCELLED that nobody reads."""
        row = self.task(ref)
        if row is None or not 0 < row.reader_ms < before_ms:
            return False
        return self._end(ref, State.CANCELLED)

    async def expire(self, ref: TaskRef) -> bool:
        """Make a live task EXPIRED."""
        return self._end(ref, State.EXPIRED)

    async def bury(self, ref: TaskRef, error: Mapping[str, Any]) -> bool:
        """Make a live task FAILED, unless somebody holds it."""
        task = self.task(ref)
        if task is None or task.state.terminal or task.lease_ms >= self.now_ms():
            return False
        self._put(task, state=State.FAILED, error=dict(error))
        return True

    async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks of any number of tasks."""
        for chunk in chunks:
            self._chunks[chunk.ref, chunk.attempt, chunk.seq] = chunk

    async def begun(self, ref: TaskRef, before: int) -> int:
        """The newest attempt before ``before`` that has written a chunk."""
        found = (n for r, n, seq in self._chunks if r == ref and n < before and seq == 0)
        return max(found, default=0)

    async def written(self, ref: TaskRef, attempt: int) -> list[Chunk]:
        """The chunks of an attempt, up to the first gap."""
        found = self.chunks(ref, attempt)
        return [chunk for seq, chunk in enumerate(found) if chunk.seq == seq]

    async def read(self, wanted: Sequence[Wanted], *, consistent: bool = False) -> list[TaskRead]:
        """Read rows and chunks of many tasks at once."""
        return [TaskRead(self.task(one.ref), tuple(self._wanted_chunks(one))) for one in wanted]

    async def live(self, slug: str, limit: int) -> list[tuple[TaskRef, int]]:
        """Up to ``limit`` live tasks of a model, the earliest deadline first."""
        rows = [row for ref in self._tasks if ref.slug == slug and (row := self.task(ref))]
        found = [(row.ref, row.deadline_ms) for row in rows if not row.state.terminal]
        return sorted(found, key=lambda one: one[1])[:limit]

    async def live_by_slug(self, limit: int) -> dict[str, list[tuple[TaskRef, int]]] | None:
        """The live tasks of all models."""
        rows = [row for ref in self._tasks if (row := self.task(ref))]
        live = [(row.deadline_ms, row.ref) for row in rows if not row.state.terminal]
        found: dict[str, list[tuple[TaskRef, int]]] = {}
        for deadline_ms, ref in sorted(live, key=lambda one: one[0]):
            found.setdefault(ref.slug, []).append((ref, deadline_ms))
        return found if len(live) <= limit else None

    async def states(self, refs: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        """How each task that exists stands."""
        rows = [row for ref in refs if (row := self.task(ref)) is not None]
        return {row.ref: TaskStatus(row.state, row.attempt, row.reader_ms) for row in rows}

    def _wanted_chunks(self, wanted: Wanted) -> list[Chunk]:
        keys = [
            (wanted.ref, wanted.attempt, seq)
            for seq in range(wanted.seq, wanted.seq + wanted.count)
        ]
        found = [self._chunks[key] for key in keys if key in self._chunks]
        return [chunk for chunk in found if chunk.ttl * 1000 > self.now_ms()]

    def ended(self, first_ms: int, end_ms: int) -> list[Task]:
        """The tasks that ended in that time."""
        rows = [row for ref in self._tasks if (row := self.task(ref))]
        return [row for row in rows if row.state.terminal and first_ms <= row.ended_ms < end_ms]

    def _put(self, task: Task, **changes: Any) -> Task:
        if changes.get("state", State.QUEUED).terminal:
            changes["ended_ms"] = self.now_ms()
        self._tasks[task.ref] = changed = replace(task, **changes)
        return changed

    def _end(self, ref: TaskRef, state: State) -> bool:
        task = self.task(ref)
        if task is None or task.state.terminal:
            return False
        self._put(task, state=state)
        return True

    def _held(self, task: Task) -> Task:
        row = self.task(task.ref)
        if row is None or row.state is not State.RUNNING or not row.lease_ms:
            raise LeaseLost
        if not _same_attempt(row, task):
            raise LeaseLost
        return row

    def _is_repeat(self, row: Task, task: Task, outcome: AttemptOutcome) -> bool:
        return _same_attempt(row, task) and self.outcomes.get(task.ref) == outcome


def _same_attempt(row: Task, task: Task) -> bool:
    return (row.attempt, row.owner) == (task.attempt, task.owner)


@dataclass(slots=True)
class _Waiting:
    """A message on a queue: out with somebody until ``visible_at``, by the newest receipt."""

    text: str
    sent_ms: int
    visible_at: float = 0.0
    receives: int = 0
    receipt: str = ""


class MemoryQueue:
    """A `TaskQueue` in memory, and a `QueueMaker`. A queue is there once it is spoken of."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._dates = Dates(self._clock)
        self._queues: dict[str, list[_Waiting]] = {}
        self._receipts = itertools.count(1)
        self._change = asyncio.Event()

    async def make(self, model: str) -> Mapping[Tier, str]:
        """The URLs of a model's queues."""
        return {tier: f"memory://{slug(model)}-{tier}" for tier in TIERS}

    def messages(self, queue: str) -> list[str]:
        """All messages of a queue, hidden ones too. For tests to look at."""
        return [message.text for message in self._queues.get(queue, [])]

    async def send(self, queue: str, message: Message, tenant: str) -> None:
        """Put a message on the queue."""
        self.put(queue, message.dumps())

    def put(self, queue: str, text: str) -> None:
        """Put any text on the queue, as a stranger might."""
        self._queues.setdefault(queue, []).append(_Waiting(text, self._dates.now_ms()))
        self._wake()

    async def receive(
        self, queue: str, *, limit: int, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[Delivery]:
        """Take up to ``limit`` messages, waiting for the first."""
        until = self._clock.monotonic() + wait_seconds
        while True:
            now = self._clock.monotonic()
            ready = [m for m in self._queues.get(queue, []) if m.visible_at <= now][:limit]
            if ready or now >= until:
                return [
                    self._deliver(queue, message, now + visibility_timeout_seconds)
                    for message in ready
                ]
            hidden = [m.visible_at for m in self._queues.get(queue, [])]
            await self._wait(min([until, *hidden]) - now)

    async def change_visibility(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        """Keep the messages hidden for ``seconds`` from now."""
        for message in map(self._find, deliveries):
            if message is not None:
                message.visible_at = self._clock.monotonic() + seconds
        self._wake()

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        """Remove the messages."""
        for delivery in deliveries:
            if (message := self._find(delivery)) is not None:
                self._queues[delivery.queue].remove(message)

    async def depth(self, queue: str) -> Depth:
        """How much the queue holds."""
        messages, now = self._queues.get(queue, []), self._clock.monotonic()
        waiting = sum(message.visible_at <= now for message in messages)
        return Depth(waiting, len(messages) - waiting)

    def _deliver(self, queue: str, message: _Waiting, visible_at: float) -> Delivery:
        message.visible_at = visible_at
        message.receives += 1
        message.receipt = f"receipt-{next(self._receipts)}"
        return Delivery(
            queue=queue,
            receipt=message.receipt,
            text=message.text,
            receives=message.receives,
            sent_ms=message.sent_ms,
        )

    def _find(self, delivery: Delivery) -> _Waiting | None:
        messages = self._queues.get(delivery.queue, [])
        return next((m for m in messages if m.receipt == delivery.receipt), None)

    def _wake(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    async def _wait(self, seconds: float) -> None:
        """Return after ``seconds`` of the clock or at the next change, whatever comes first."""
        either = [
            asyncio.ensure_future(self._change.wait()),
            asyncio.ensure_future(self._clock.sleep(seconds)),
        ]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in either:
                one.cancel()


class MemoryBodies:
    """A `BodyStore` in memory."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}

    async def put(self, key: str, body: bytes) -> None:
        """Keep ``body`` under ``key``."""
        self._bodies[key] = body

    async def get(self, key: str) -> bytes:
        """The body under ``key``. Raises Unavailable."""
        if key not in self._bodies:
            raise Unavailable("There is no such body.")
        return self._bodies[key]


class MemoryMinutes:
    """A `MinuteStore` in memory."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, str], MinuteMetrics] = {}

    async def add(self, row: Minute) -> None:
        """Add to a minute's figures."""
        self._rows.setdefault((row.number, row.model), MinuteMetrics()).add(row.figures)

    async def since(self, number: int) -> list[Minute]:
        """All minutes from ``number`` on, oldest first."""
        kept = sorted((key, figures) for key, figures in self._rows.items() if key[0] >= number)
        return [Minute(*key, MinuteMetrics(figures.counts.copy())) for key, figures in kept]
