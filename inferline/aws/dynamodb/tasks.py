"""The task store on DynamoDB: one table, a task's chunks and its STATE row under one key."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import count
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import ConditionFailed
from inferline.aws.api.items import to_item
from inferline.aws.dynamodb.batches import READ_MAX, Batches
from inferline.aws.dynamodb.expressions import CopyOf
from inferline.aws.dynamodb.idempotency import Bindings
from inferline.aws.dynamodb.reads import TaskReads
from inferline.aws.dynamodb.table import Item, Table
from inferline.aws.dynamodb.task_rows import (
    LIVE_KEY,
    STATE_KEY,
    answer_bytes,
    chunk_key,
    chunk_row,
    end_attributes,
    new_row,
    read_chunk,
    read_status,
    read_task,
    row_key,
    shard_attributes,
)
from inferline.errors import BackendFailed, LeaseLost, Unavailable
from inferline.tasks.store import (
    AttemptOutcome,
    Binding,
    Claimed,
    Refused,
    TaskRead,
    TaskStatus,
    Wanted,
)
from inferline.tasks.task import (
    BURY,
    CANCEL,
    CLAIM,
    EXPIRE,
    FAIL,
    FINISH,
    GIVE_UP,
    HAND_BACK,
    RENEW,
    Chunk,
    Move,
    State,
    Task,
    TaskRef,
)

#: The condition of a fenced move: the newest attempt is still this one, with a lease.
_FENCE: Final = "#attempt = :fence AND #owner = :holder AND #lease_ms > :zero"
#: The condition of a claim, besides the task's state.
_CLAIMABLE: Final = "#lease_ms < :now AND #deadline_ms > :now AND #attempt < #attempt_limit"
_LEASE_BEFORE: Final = CopyOf("lease_ms")


class DynamoTaskStore:
    """`TaskStore` on one table. The client's clock, which is AWS's, judges leases and deadlines."""

    def __init__(self, client: AwsClient, table: str, *, packs: bool = False) -> None:
        """``packs``: write answers in fewer bytes, which not every release can read."""
        self._client = client
        #: The table's name.
        self.table = table
        self._rows = Table(client, table)
        self._packs = packs
        self._write_id_prefix = secrets.token_hex(6)
        self._writes = count()
        self._batches = Batches(self._rows)
        self._bindings = Bindings(self._rows)
        self._reads = TaskReads(self._rows)

    def now_ms(self) -> int:
        return self._client.now_ms()

    def _new_write_id(self) -> str:
        """Return an id that no other write has: a repeat of the write is recognised by it."""
        return f"{self._write_id_prefix}-{next(self._writes):x}"

    async def submit(self, task: Task) -> None:
        write_id = self._new_write_id()
        row = new_row(task, write_id)
        try:
            await self._rows.put(row, condition="attribute_not_exists(pk)", show_refused=True)
        except ConditionFailed as refused:
            if refused.item.get("token") != {"S": write_id}:
                raise Unavailable(f"The task id {task.ref.id} is taken.") from refused
        self._reads.remember(write_id, task)

    async def submit_all(self, tasks: Sequence[Task]) -> None:
        await self._batches.write_missing([new_row(task, self._new_write_id()) for task in tasks])

    async def submit_once(
        self, task: Task, key: str, request: str, instead_of: str
    ) -> Binding | None:
        row = new_row(task, self._new_write_id())
        return await self._bindings.put(task, row, key, Binding(task.ref.id, request), instead_of)

    async def binding(self, slug: str, key: str) -> Binding | None:
        return await self._bindings.get(slug, key)

    async def claim(self, ref: TaskRef, owner: str, lease_seconds: float) -> Claimed | Refused:
        now = self.now_ms()
        changes = {
            "owner": owner,
            "lease_ms": now + _ms(lease_seconds),
            "claimed_ms": now,
            "lapsed_ms": _LEASE_BEFORE,
        }
        try:
            task = await self._move(
                ref, CLAIM, changes, add={"attempt": 1}, condition=_CLAIMABLE, values={"now": now}
            )
        except ConditionFailed as refused:
            if not refused.item:
                return Refused(None)
            return await self._refusal(read_task(refused.item), now)
        return Claimed(task)

    async def _refusal(self, task: Task, now: int) -> Refused:
        """Return why ``task`` can't be claimed; end it if its deadline or attempts are over."""
        if task.state.terminal:
            return Refused(task)
        if task.deadline_ms <= now:
            await self.expire(task.ref)
            return Refused(replace(task, state=State.EXPIRED))
        if task.lease_ms < now and task.attempts_left <= 0:
            error = BackendFailed("Every attempt at this request failed. Send it again later.")
            try:
                failed = await self._move(
                    task.ref,
                    GIVE_UP,
                    {"error": error.as_dict()},
                    condition="#attempt = :spent",
                    values={"spent": task.attempt},
                )
            except ConditionFailed as changed:
                return Refused(read_task(changed.item) if changed.item else None)
            return Refused(failed)
        return Refused(task)

    async def renew(self, task: Task, lease_seconds: float) -> Task:
        return await self._move(task, RENEW, {"lease_ms": self.now_ms() + _ms(lease_seconds)})

    async def bring_deadline_forward(self, ref: TaskRef, deadline_ms: int) -> bool:
        # No move, as in `renew_reader_lease`.
        try:
            await self._rows.update(
                row_key(ref, STATE_KEY),
                set={"deadline_ms": deadline_ms},
                condition=_condition(RENEW, "#deadline_ms > :deadline_ms"),
                values=_source_values(RENEW),
            )
        except ConditionFailed:
            return False
        return True

    async def hand_back(
        self, task: Task, *, counts: bool, unfit: frozenset[str] = frozenset()
    ) -> None:
        changes: dict[str, Any] = {"lease_ms": 0}
        if unfit:
            changes["unfit"] = " ".join(sorted(unfit))
        await self._move(task, HAND_BACK, changes, add={} if counts else {"attempt_limit": 1})

    async def finish(self, task: Task, outcome: AttemptOutcome) -> None:
        changes: dict[str, Any] = {
            "status": outcome.status,
            "content_type": outcome.content_type,
            "chunks": outcome.chunks,
        }
        if outcome.tail:
            changes |= answer_bytes("tail", outcome.tail, packs=self._packs)
        if outcome.error:
            changes["error"] = outcome.error
        if outcome.usage:
            changes["usage"] = outcome.usage
        if outcome.headers:
            changes["headers"] = outcome.headers
        move = FAIL if outcome.error else FINISH
        try:
            await self._move(task, move, changes)
        except LeaseLost as lost:
            if not _was_ours(lost, task, move):
                raise

    async def renew_reader_lease(self, task: Task, reader: str, seconds: float) -> bool:
        # It is no move: it leaves the `token` alone, by which a move recognises its repeat.
        sources = _source_values(CANCEL)
        try:
            await self._rows.update(
                row_key(task.ref, STATE_KEY),
                set={"reader": reader, "reader_ms": self.now_ms() + _ms(seconds)},
                condition=_condition(CANCEL, "#reader = :reader OR #reader_ms = :seen_ms"),
                values={**sources, "seen_ms": task.reader_ms},
            )
        except ConditionFailed:
            return False
        return True

    async def cancel(self, ref: TaskRef, reader: str = "") -> bool:
        if not reader:
            return await self._end(ref, CANCEL)
        return await self._end(ref, CANCEL, "#reader = :reader", {"reader": reader})

    async def cancel_unread(self, ref: TaskRef, before_ms: int) -> bool:
        lapsed, values = "#reader_ms BETWEEN :one AND :last", {"one": 1, "last": before_ms - 1}
        return await self._end(ref, CANCEL, lapsed, values)

    async def expire(self, ref: TaskRef) -> bool:
        return await self._end(ref, EXPIRE)

    async def bury(self, ref: TaskRef, error: Mapping[str, Any]) -> bool:
        lapsed, values = "#lease_ms < :now", {"now": self.now_ms()}
        return await self._end(ref, BURY, lapsed, values, {"error": dict(error)})

    async def _end(
        self,
        ref: TaskRef,
        move: Move,
        condition: str = "",
        values: Mapping[str, Any] = {},
        changes: Mapping[str, Any] = {},
    ) -> bool:
        """Make a move that anybody may make. Return False if it is refused."""
        try:
            await self._move(ref, move, changes, condition=condition, values=values)
        except ConditionFailed:
            return False
        return True

    async def _move(
        self,
        task: Task | TaskRef,
        move: Move,
        changes: Mapping[str, Any],
        *,
        add: Mapping[str, int] = {},
        condition: str = "",
        values: Mapping[str, Any] = {},
    ) -> Task:
        """
        Make one move as one conditional write: the only place where a state changes.

        Raises ConditionFailed, or LeaseLost for a fenced move. The row's `token` is the write's id.
        """
        ref, write_id = (task if isinstance(task, TaskRef) else task.ref), self._new_write_id()
        if move.fenced:
            assert isinstance(task, Task)
            condition, values = _FENCE, _fence_values(task)
            changes = {**changes, **shard_attributes(task)}
        changes = {**changes, "state": move.target, "token": write_id}
        if move.target.terminal:
            changes |= end_attributes(ref, self.now_ms())
        try:
            item = await self._rows.update(
                row_key(ref, STATE_KEY),
                set=changes,
                add=add,
                remove=(LIVE_KEY,) if move.target.terminal else (),
                condition=_condition(move, condition),
                values={**_source_values(move), **values},
                returns="ALL_NEW",
                show_refused=True,
            )
        except ConditionFailed as refused:
            if refused.item.get("token") == {"S": write_id}:
                return read_task(refused.item)
            if move.fenced:
                raise LeaseLost(f"{move.name} of task {ref.id} came too late.") from refused
            raise
        return read_task(item)

    async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        await self._batches.write(
            [to_item(chunk_row(chunk, packs=self._packs)) for chunk in chunks]
        )

    async def last_attempt_with_chunks(self, ref: TaskRef, before: int) -> int:
        for end in range(before, 1, -READ_MAX):
            attempts = {chunk_key(n, 0): n for n in range(max(1, end - READ_MAX), end)}
            keys = [row_key(ref, sort_key) for sort_key in attempts]
            items = await self._batches.get(keys, ConsistentRead=True, ProjectionExpression="sk")
            if items:
                return max(attempts[item["sk"]["S"]] for item in items)
        return 0

    async def attempt_chunks(self, ref: TaskRef, attempt: int) -> list[Chunk]:
        chunks: list[Chunk] = []
        while True:
            seqs = range(len(chunks), len(chunks) + READ_MAX)
            keys = [row_key(ref, chunk_key(attempt, seq)) for seq in seqs]
            items = {i["sk"]["S"]: i for i in await self._batches.get(keys, ConsistentRead=True)}
            for seq in seqs:
                item = items.get(chunk_key(attempt, seq))
                if item is None:
                    return chunks
                chunks.append(read_chunk(ref, attempt, seq, item))

    async def read(self, wanted: Sequence[Wanted], *, consistent: bool = False) -> list[TaskRead]:
        return await self._reads.read(wanted, consistent=consistent)

    async def live(self, slug: str, limit: int) -> list[tuple[TaskRef, int]]:
        items = self._rows.query_index(LIVE_KEY, slug, limit)
        return [_live_entry(item) async for item in items]

    async def live_by_slug(self, limit: int) -> dict[str, list[tuple[TaskRef, int]]] | None:
        entries = [_live_entry(item) async for item in self._rows.scan(LIVE_KEY, limit + 1)]
        if len(entries) > limit:
            return None
        by_slug: dict[str, list[tuple[TaskRef, int]]] = {}
        for ref, deadline_ms in sorted(entries, key=lambda entry: entry[1]):
            by_slug.setdefault(ref.slug, []).append((ref, deadline_ms))
        return by_slug

    async def statuses(self, refs: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        items = await self._batches.get(
            [row_key(ref, STATE_KEY) for ref in dict.fromkeys(refs)],
            ProjectionExpression="pk, #state, attempt, reader_ms, #ttl",
            ExpressionAttributeNames={"#state": "state", "#ttl": "ttl"},
        )
        now_s = self.now_ms() / 1000
        statuses = ((item["pk"]["S"], read_status(item, now_s)) for item in items)
        return {TaskRef.from_pk(pk): status for pk, status in statuses if status is not None}


def _fence_values(task: Task) -> Mapping[str, Any]:
    return {"fence": task.attempt, "holder": task.owner, "zero": 0}


@lru_cache(maxsize=64)
def _condition(move: Move, condition: str) -> str:
    """Build the condition of a move: the task's state, and what the caller asks besides."""
    states = ", ".join(f":from_{state}" for state in sorted(move.sources))
    in_source = f"#state IN ({states})"
    return f"{in_source} AND ({condition})" if condition else in_source


@lru_cache(maxsize=16)
def _source_values(move: Move) -> Mapping[str, State]:
    """Return the states that a move may start from, by their names in its condition."""
    return {f"from_{state}": state for state in sorted(move.sources)}


def _live_entry(item: Item) -> tuple[TaskRef, int]:
    """Read an item of the index of live tasks: a task and its deadline, in milliseconds."""
    return TaskRef.from_pk(item["pk"]["S"]), int(item["deadline_ms"]["N"])


def _was_ours(lost: LeaseLost, task: Task, move: Move) -> bool:
    """Return whether the row shows that this very attempt has made ``move`` before."""
    refused = lost.__cause__
    if not isinstance(refused, ConditionFailed) or not refused.item:
        return False
    row = read_task(refused.item)
    return (row.state, row.attempt, row.owner) == (move.target, task.attempt, task.owner)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
