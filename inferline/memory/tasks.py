"""
The task store in memory.

Time is its clock's, so that leases can be tested without waiting. It never fails or loses anything
by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from inferline.clock import Clock, SystemClock
from inferline.errors import BackendFailed, LeaseLost
from inferline.memory.dates import Dates
from inferline.tasks.store import (
    AttemptOutcome,
    Binding,
    Claimed,
    Refused,
    TaskRead,
    TaskStatus,
    Wanted,
)
from inferline.tasks.task import Chunk, State, Task, TaskRef


class MemoryStore:
    """A `TaskStore` in memory."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._dates = Dates(clock or SystemClock())
        self._tasks: dict[TaskRef, Task] = {}
        self._chunks: dict[tuple[TaskRef, int, int], Chunk] = {}
        self._bound: dict[tuple[str, str], tuple[Binding, int]] = {}
        #: The outcome of each finished task: a repeat has the same one.
        self.outcomes: dict[TaskRef, AttemptOutcome] = {}

    def now_ms(self) -> int:
        return self._dates.now_ms()

    def task(self, ref: TaskRef) -> Task | None:
        """Return the row of a task, None if there is none (any more). For tests."""
        task = self._tasks.get(ref)
        return task if task is not None and task.ttl * 1000 > self.now_ms() else None

    def chunks(self, ref: TaskRef, attempt: int) -> list[Chunk]:
        """Return all chunks of an attempt, in order. For tests."""
        chunks = [c for key, c in self._chunks.items() if key[:2] == (ref, attempt)]
        return sorted(chunks, key=lambda chunk: chunk.seq)

    async def submit(self, task: Task) -> None:
        self._tasks.setdefault(task.ref, _counted(task, task))

    async def submit_all(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            await self.submit(task)

    async def submit_once(
        self, task: Task, key: str, request: str, instead_of: str
    ) -> Binding | None:
        bound = await self.binding(task.ref.slug, key)
        if bound is not None and bound.task_id not in (instead_of, task.ref.id):
            return bound
        self._bound[task.ref.slug, key] = Binding(task.ref.id, request), task.ttl
        await self.submit(task)
        return None

    async def binding(self, slug: str, key: str) -> Binding | None:
        bound, ttl = self._bound.get((slug, key), (None, 0))
        return bound if ttl * 1000 > self.now_ms() else None

    async def claim(self, ref: TaskRef, owner: str, lease_seconds: float) -> Claimed | Refused:
        task, now_ms = self.task(ref), self.now_ms()
        if task is None or task.state.terminal:
            return Refused(task)
        if task.deadline_ms <= now_ms:
            return Refused(self._put(task, state=State.EXPIRED))
        if task.lease_ms >= now_ms:
            return Refused(task)
        if task.attempts_left <= 0:
            error = BackendFailed("Every attempt at this request failed. Send it again later.")
            return Refused(self._put(task, state=State.FAILED, error=error.as_dict()))
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

    async def renew(self, task: Task, lease_seconds: float) -> Task:
        return self._put(self._owned(task), lease_ms=self.now_ms() + round(lease_seconds * 1000))

    async def bring_deadline_forward(self, ref: TaskRef, deadline_ms: int) -> bool:
        task = self.task(ref)
        if task is None or task.state is not State.RUNNING or task.deadline_ms <= deadline_ms:
            return False
        self._put(task, deadline_ms=deadline_ms)
        return True

    async def hand_back(
        self, task: Task, *, counts: bool, unfit: frozenset[str] = frozenset()
    ) -> None:
        row = self._owned(task)
        names = " ".join(sorted(unfit)) or row.unfit
        self._put(row, lease_ms=0, attempt_limit=row.attempt_limit + (not counts), unfit=names)

    async def finish(self, task: Task, outcome: AttemptOutcome) -> None:
        row = self.task(task.ref)
        if row is not None and row.state.terminal and self._is_repeat(row, task, outcome):
            return
        row = self._owned(task)
        self.outcomes[task.ref] = outcome
        self._put(
            row,
            state=State.FAILED if outcome.error else State.DONE,
            status=outcome.status,
            content_type=outcome.content_type,
            chunks=outcome.chunks,
            tail=outcome.tail,
            error=outcome.error,
            usage=row.usage if row.shard else outcome.usage,
            headers=outcome.headers,
        )

    async def renew_reader_lease(self, task: Task, reader: str, seconds: float) -> bool:
        row = self.task(task.ref)
        if row is None or row.state.terminal:
            return False
        if reader != row.reader and task.reader_ms != row.reader_ms:
            return False
        self._put(row, reader=reader, reader_ms=self.now_ms() + round(seconds * 1000))
        return True

    async def cancel(self, ref: TaskRef, reader: str = "") -> bool:
        row = self.task(ref)
        if reader and row is not None and row.reader != reader:
            return False
        return self._end(ref, State.CANCELLED)

    async def cancel_unread(self, ref: TaskRef, before_ms: int) -> bool:
        row = self.task(ref)
        if row is None or not 0 < row.reader_ms < before_ms:
            return False
        return self._end(ref, State.CANCELLED)

    async def expire(self, ref: TaskRef) -> bool:
        return self._end(ref, State.EXPIRED)

    async def bury(self, ref: TaskRef, error: Mapping[str, Any]) -> bool:
        task = self.task(ref)
        if task is None or task.state.terminal or task.lease_ms >= self.now_ms():
            return False
        self._put(task, state=State.FAILED, error=dict(error))
        return True

    async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            self._chunks[chunk.ref, chunk.attempt, chunk.seq] = chunk

    async def last_attempt_with_chunks(self, ref: TaskRef, before: int) -> int:
        attempts = (n for r, n, seq in self._chunks if r == ref and n < before and seq == 0)
        return max(attempts, default=0)

    async def attempt_chunks(self, ref: TaskRef, attempt: int) -> list[Chunk]:
        return [chunk for seq, chunk in enumerate(self.chunks(ref, attempt)) if chunk.seq == seq]

    async def read(self, wanted: Sequence[Wanted], *, consistent: bool = False) -> list[TaskRead]:
        return [TaskRead(self.task(want.ref), tuple(self._wanted_chunks(want))) for want in wanted]

    async def live(self, slug: str, limit: int) -> list[tuple[TaskRef, int]]:
        rows = [row for ref in self._tasks if ref.slug == slug and (row := self.task(ref))]
        live = [(row.ref, row.deadline_ms) for row in rows if not row.state.terminal]
        return sorted(live, key=lambda entry: entry[1])[:limit]

    async def live_by_slug(self, limit: int) -> dict[str, list[tuple[TaskRef, int]]] | None:
        rows = [row for ref in self._tasks if (row := self.task(ref))]
        live = [(row.deadline_ms, row.ref) for row in rows if not row.state.terminal]
        by_slug: dict[str, list[tuple[TaskRef, int]]] = {}
        for deadline_ms, ref in sorted(live, key=lambda entry: entry[0]):
            by_slug.setdefault(ref.slug, []).append((ref, deadline_ms))
        return by_slug if len(live) <= limit else None

    async def statuses(self, refs: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        rows = [row for ref in refs if (row := self.task(ref)) is not None]
        return {row.ref: TaskStatus(row.state, row.attempt, row.reader_ms) for row in rows}

    def _wanted_chunks(self, wanted: Wanted) -> list[Chunk]:
        keys = [
            (wanted.ref, wanted.attempt, seq)
            for seq in range(wanted.seq, wanted.seq + wanted.count)
        ]
        chunks = [self._chunks[key] for key in keys if key in self._chunks]
        return [chunk for chunk in chunks if chunk.ttl * 1000 > self.now_ms()]

    def ended(self, first_ms: int, end_ms: int) -> list[Task]:
        """Return the tasks that ended from ``first_ms`` to before ``end_ms``."""
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

    def _owned(self, task: Task) -> Task:
        """Return the task's row. Raises LeaseLost unless this attempt is its newest."""
        row = self.task(task.ref)
        if row is None or row.state is not State.RUNNING or not row.lease_ms:
            raise LeaseLost
        if not _same_attempt(row, task):
            raise LeaseLost
        return _counted(row, task)

    def _is_repeat(self, row: Task, task: Task, outcome: AttemptOutcome) -> bool:
        return _same_attempt(row, task) and self.outcomes.get(task.ref) == outcome


def _counted(row: Task, task: Task) -> Task:
    """Return the row with the progress and usage of a shard as ``task`` has it."""
    shard = task.shard
    return row if shard is None else replace(row, shard=shard, usage=shard.spent)


def _same_attempt(row: Task, task: Task) -> bool:
    return (row.attempt, row.owner) == (task.attempt, task.owner)
