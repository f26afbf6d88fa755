"""The task store on DynamoDB: one table, a task's chunks and its STATE row under one key."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import count
from typing import Any

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import ConditionFailed, call
from inferline.aws.api.items import to_item
from inferline.aws.dynamodb.batches import READ_MAX, Batches
from inferline.aws.dynamodb.idempotency import Bindings
from inferline.aws.dynamodb.live_index import LiveIndex
from inferline.aws.dynamodb.reads import TaskReads
from inferline.aws.dynamodb.task_rows import (
    LIVE_KEY,
    STATE_KEY,
    answer_bytes,
    chunk_key,
    chunk_row,
    ending,
    new_row,
    read_chunk,
    read_standing,
    read_task,
    row_key,
)
from inferline.errors import BackendFailed, LeaseLost, Unavailable
from inferline.tasks.store import (
    AttemptOutcome,
    Bound,
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
    HAND_BACK,
    RENEW,
    Chunk,
    Move,
    State,
    Task,
    TaskRef,
)


class DynamoTaskStore:
    """`TaskStore` on one table. The client's clock, which is AWS's, judges leases and deadlines."""

    def __init__(self, client: AwsClient, table: str, *, packs: bool = False) -> None:
        """``packs``: write answers in fewer bytes, which not every release can read."""
        self._client = client
        #: Its name.
        self.table = table
        self._packs = packs
        self._mark = secrets.token_hex(6)
        self._writes = count()
        self._batches = Batches(client, table)
        self._bindings = Bindings(client, table)
        self._index = LiveIndex(client, table)
        self._looks = TaskReads(client, table)

    def now_ms(self) -> int:
        """Milliseconds since 1970 by AWS's clock."""
        return self._client.now_ms()

    def _new_token(self) -> str:
        """A word for a write that no other write has: by it a repeat is known."""
        return f"{self._mark}-{next(self._writes):x}"

    async def submit(self, task: Task) -> None:
        """Write a new task; see `TaskStore`."""
        token = self._new_token()
        item = to_item(new_row(task, token))
        try:
            await self._call(
                "PutItem",
                Item=item,
                ConditionExpression="attribute_not_exists(pk)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refused:
            if refused.item.get("token") != to_item({"token": token})["token"]:
                raise Unavailable(f"The task id {task.ref.id} is taken.") from refused
        self._looks.remember(item, task)

    async def submit_once(
        self, task: Task, key: str, request: str, instead_of: str
    ) -> Bound | None:
        """Write a new task and bind a key to it, both or neither; see `TaskStore`."""
        row = new_row(task, self._new_token())
        return await self._bindings.put(task, row, key, Bound(task.ref.id, request), instead_of)

    async def binding(self, slug: str, key: str) -> Bound | None:
        """What a key is bound to; see `TaskStore`."""
        return await self._bindings.get(slug, key)

    async def claim(self, ref: TaskRef, owner: str, lease_seconds: float) -> Claimed | Refused:
        """Begin an attempt; see `TaskStore`."""
        now = self.now_ms()
        token = self._new_token()
        changes = {"owner": owner, "lease_ms": now + _ms(lease_seconds), "claimed_ms": now}
        try:
            task = await self._move(
                ref,
                CLAIM,
                changes,
                token=token,
                plus={"attempt": 1},
                copies={"lapsed_ms": "lease_ms"},
                where="#lease_ms < :now AND #deadline_ms > :now AND #attempt < #attempt_limit",
                values={"now": now},
                names=("deadline_ms", "attempt_limit"),
            )
        except ConditionFailed as refused:
            if not refused.item:
                return Refused(None)
            return await self._refusal(read_task(refused.item), now)
        return Claimed(task)

    async def _refusal(self, task: Task, now: int) -> Refused:
        """Why ``task`` can't be claimed, after the move that this calls for."""
        if task.state.terminal:
            return Refused(task)
        if task.deadline_ms <= now:
            await self.expire(task.ref)
            return Refused(replace(task, state=State.EXPIRED))
        if task.lease_ms < now and task.attempts_left <= 0:
            error = BackendFailed("Every attempt at this request failed. Send it again later.")
            spent = {"error": error.told()}
            where, values = "#attempt = :spent", {"spent": task.attempt}
            try:
                return Refused(
                    await self._move(
                        task.ref, FAIL, spent, where=where, values=values, names=("attempt",)
                    )
                )
            except ConditionFailed as changed:
                return Refused(read_task(changed.item) if changed.item else None)
        return Refused(task)

    async def renew(self, task: Task, lease_seconds: float) -> None:
        """Prolong the lease; see `TaskStore`."""
        await self._fenced(task, RENEW, {"lease_ms": self.now_ms() + _ms(lease_seconds)})

    async def hand_back(
        self, task: Task, *, spared: bool, unfit: frozenset[str] = frozenset()
    ) -> None:
        """End the lease now; see `TaskStore`."""
        plus = {"attempt_limit": 1} if spared else {}
        changes: dict[str, Any] = {"lease_ms": 0}
        if unfit:
            changes["unfit"] = " ".join(sorted(unfit))
        await self._fenced(task, HAND_BACK, changes, plus=plus)

    async def finish(self, task: Task, outcome: AttemptOutcome) -> None:
        """End the task; see `TaskStore`."""
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
            await self._fenced(task, move, changes)
        except LeaseLost as lost:
            if not _was_ours(lost, task, move):
                raise

    async def renew_reader_lease(self, task: Task, reader: str, seconds: float) -> bool:
        """
        Take or renew the reader lease; see `TaskStore`.

        It is no move and leaves the row's token alone, by which a move knows its own repeat.
        """
        held = {"reader": reader, "reader_ms": self.now_ms() + _ms(seconds)}
        live = {f"from_{state}": state for state in sorted(CANCEL.sources)}
        values = {**held, **live, "seen_ms": task.reader_ms}
        states = ", ".join(f":{one}" for one in live)
        own = "#reader = :reader OR #reader_ms = :seen_ms"
        try:
            await self._call(
                "UpdateItem",
                Key=row_key(task.ref, STATE_KEY),
                UpdateExpression="SET #reader = :reader, #reader_ms = :reader_ms",
                ConditionExpression=f"#state IN ({states}) AND ({own})",
                ExpressionAttributeNames={f"#{name}": name for name in ("state", *held)},
                ExpressionAttributeValues={f":{k}": v for k, v in to_item(values).items()},
            )
        except ConditionFailed:
            return False
        return True

    async def cancel(self, ref: TaskRef, reader: str = "") -> bool:
        """Make a live task CANCELLED; see `TaskStore`."""
        if not reader:
            return await self._end(ref, CANCEL)
        return await self._end(ref, CANCEL, "#reader = :reader", {"reader": reader}, ("reader",))

    async def cancel_unread(self, ref: TaskRef, before_ms: int) -> bool:
        """Make a live task CANCELLED that nobody reads; see `TaskStore`."""
        lapsed, values = "#reader_ms BETWEEN :one AND :last", {"one": 1, "last": before_ms - 1}
        return await self._end(ref, CANCEL, lapsed, values, ("reader_ms",))

    async def expire(self, ref: TaskRef) -> bool:
        """Make a live task EXPIRED; see `TaskStore`."""
        return await self._end(ref, EXPIRE)

    async def bury(self, ref: TaskRef, error: Mapping[str, Any]) -> bool:
        """Make a live task FAILED, unless somebody holds it; see `TaskStore`."""
        unheld, now = "#lease_ms < :now", {"now": self.now_ms()}
        return await self._end(ref, BURY, unheld, now, ("lease_ms",), {"error": dict(error)})

    async def _end(
        self,
        ref: TaskRef,
        move: Move,
        where: str = "",
        values: Mapping[str, Any] = {},
        names: Iterable[str] = (),
        changes: Mapping[str, Any] = {},
    ) -> bool:
        """Make a move of anybody's, `_move`'s further condition and all; False if refused."""
        try:
            await self._move(ref, move, changes, where=where, values=values, names=names)
        except ConditionFailed:
            return False
        return True

    async def _fenced(
        self, task: Task, move: Move, changes: Mapping[str, Any], plus: Mapping[str, int] = {}
    ) -> None:
        """Make a move that only the attempt's owner may make. Raises LeaseLost."""
        try:
            await self._move(
                task.ref,
                move,
                changes,
                plus=plus,
                where="#attempt = :fence AND #owner = :holder AND #lease_ms > :zero",
                values={"fence": task.attempt, "holder": task.owner, "zero": 0},
                names=("attempt", "owner", "lease_ms"),
            )
        except ConditionFailed as refused:
            raise LeaseLost(f"{move.name} of task {task.ref.id} came too late.") from refused

    async def _move(
        self,
        ref: TaskRef,
        move: Move,
        changes: Mapping[str, Any],
        *,
        plus: Mapping[str, int] = {},
        copies: Mapping[str, str] = {},
        where: str = "",
        values: Mapping[str, Any] = {},
        names: Iterable[str] = (),
        token: str | None = None,
    ) -> Task:
        """
        Make one move as one conditional write: the only place where a state changes.

        ``changes`` are set, ``plus`` is added, ``copies`` are set to what other attributes were
        before, ``where`` is a further condition with its ``values`` and ``names``. A repeat of our
        own write, whose response was lost, is told by its token and is no failure. A task that has
        ended goes from the index of live ones into that of ended ones. Raises ConditionFailed with
        the row as it was.
        """
        token = token or self._new_token()
        changed = {**changes, "state": move.target, "token": token}
        if move.target.terminal:
            changed |= ending(ref, self.now_ms())
        form = _form(move, tuple(changed), tuple(plus), tuple(copies.items()), where, tuple(names))
        sources = {f"from_{state}": state for state in move.sources}
        every = {**changed, **{f"plus_{k}": v for k, v in plus.items()}, **sources, **values}
        try:
            answer = await self._call(
                "UpdateItem",
                Key=row_key(ref, STATE_KEY),
                ExpressionAttributeValues={f":{k}": v for k, v in to_item(every).items()},
                **form,
            )
        except ConditionFailed as refused:
            if refused.item.get("token") == {"S": token}:
                return read_task(refused.item)
            raise
        return read_task(answer["Attributes"])

    async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks of any number of tasks; see `TaskStore`."""
        rows = (chunk_row(chunk, packs=self._packs) for chunk in chunks)
        await self._batches.write([{"PutRequest": {"Item": to_item(row)}} for row in rows])

    async def begun(self, ref: TaskRef, before: int) -> int:
        """The newest attempt before ``before`` that has written a chunk; see `TaskStore`."""
        for end in range(before, 1, -READ_MAX):
            names = {chunk_key(n, 0): n for n in range(max(1, end - READ_MAX), end)}
            keys = [row_key(ref, name) for name in names]
            there = await self._batches.get(keys, ConsistentRead=True, ProjectionExpression="sk")
            if there:
                return max(names[item["sk"]["S"]] for item in there)
        return 0

    async def written(self, ref: TaskRef, attempt: int) -> list[Chunk]:
        """The chunks of an attempt, up to the first gap; see `TaskStore`."""
        found: list[Chunk] = []
        while True:
            seqs = range(len(found), len(found) + READ_MAX)
            keys = [row_key(ref, chunk_key(attempt, seq)) for seq in seqs]
            items = {i["sk"]["S"]: i for i in await self._batches.get(keys, ConsistentRead=True)}
            for seq in seqs:
                item = items.get(chunk_key(attempt, seq))
                if item is None:
                    return found
                found.append(read_chunk(ref, attempt, seq, item))

    async def read(self, wanted: Sequence[Wanted], *, consistent: bool = False) -> list[TaskRead]:
        """Read rows and chunks of many tasks at once; see `TaskStore`."""
        return await self._looks.read(wanted, consistent=consistent)

    async def live(self, slug: str, limit: int) -> list[tuple[TaskRef, int]]:
        """Up to ``limit`` live tasks of a model, the earliest deadline first; see `TaskStore`."""
        return await self._index.of(slug, limit)

    async def live_by_slug(self, limit: int) -> dict[str, list[tuple[TaskRef, int]]] | None:
        """The live tasks of all models, unless they are too many; see `TaskStore`."""
        found = await self._index.all(limit + 1)
        if len(found) > limit:
            return None
        by_slug: dict[str, list[tuple[TaskRef, int]]] = {}
        for ref, deadline_ms in found:
            by_slug.setdefault(ref.slug, []).append((ref, deadline_ms))
        return by_slug

    async def states(self, refs: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        """How each task that exists stands; see `TaskStore`."""
        items = await self._batches.get(
            [row_key(ref, STATE_KEY) for ref in dict.fromkeys(refs)],
            ProjectionExpression="pk, #state, attempt, reader_ms, #ttl",
            ExpressionAttributeNames={"#state": "state", "#ttl": "ttl"},
        )
        now_s = self.now_ms() / 1000
        found = ((item["pk"]["S"], read_standing(item, now_s)) for item in items)
        return {TaskRef.from_pk(pk): standing for pk, standing in found if standing is not None}

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        request = {"TableName": self.table, **arguments}
        return await call(self._client, "dynamodb", operation, request)


@lru_cache(maxsize=256)
def _form(
    move: Move,
    changed: tuple[str, ...],
    plus: tuple[str, ...],
    copies: tuple[tuple[str, str], ...],
    where: str,
    names: tuple[str, ...],
) -> Mapping[str, Any]:
    """What the write of a move has besides its key and values; there are as many as callers."""
    sets = [f"#{name} = :{name}" for name in changed]
    sets += [f"#{name} = #{name} + :plus_{name}" for name in plus]
    sets += [f"#{name} = #{source}" for name, source in copies]
    sources = ", ".join(f":from_{state}" for state in sorted(move.sources))
    condition = f"#state IN ({sources})"
    gone = f" REMOVE #{LIVE_KEY}" if move.target.terminal else ""
    copied = (name for copy in copies for name in copy)
    named = {*changed, *plus, *names, *copied, *((LIVE_KEY,) if gone else ())}
    return {
        "UpdateExpression": "SET " + ", ".join(sets) + gone,
        "ConditionExpression": f"{condition} AND ({where})" if where else condition,
        "ExpressionAttributeNames": {f"#{name}": name for name in named},
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def _was_ours(lost: LeaseLost, task: Task, move: Move) -> bool:
    """Whether the row shows that this very attempt has made ``move`` before."""
    refused = lost.__cause__
    if not isinstance(refused, ConditionFailed) or not refused.item:
        return False
    row = read_task(refused.item)
    return (row.state, row.attempt, row.owner) == (move.target, task.attempt, task.owner)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
