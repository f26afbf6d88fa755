"""The task store on DynamoDB: one table, a task's chunks and its STATE row under one key."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from inferline.aws.batches import READ_MAX, Batches
from inferline.aws.bindings import Bindings
from inferline.aws.client import AwsClient
from inferline.aws.faults import ConditionFailed, call
from inferline.aws.items import from_item, to_item
from inferline.aws.live_index import LiveIndex
from inferline.aws.task_rows import (
    LIVE_KEY,
    STATE_KEY,
    Item,
    chunk_key,
    chunk_of,
    chunk_row,
    new_row,
    row_key,
    standing_of,
    task_of,
    wanted_keys,
)
from inferline.errors import BackendFailed, LeaseLost, Unavailable
from inferline.store import Bound, Claimed, Found, Outcome, Refused, Standing, Wanted
from inferline.task import (
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

#: How many tasks that readers look at are remembered.
SEEN_MAX: Final = 4096


class DynamoTaskStore:
    """`TaskStore` on one table. The client's clock, which is AWS's, judges leases and deadlines."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._client = client
        self._table = table
        self._batches = Batches(client, table)
        self._bindings = Bindings(client, table)
        self._index = LiveIndex(client, table)
        #: The tasks last seen by readers, with the token of the move that made them so and the end
        #: of the reader lease, which is no move.
        self._seen: dict[str, tuple[str, str, Task]] = {}

    def now_ms(self) -> int:
        """Milliseconds since 1970 by AWS's clock."""
        return self._client.now_ms()

    async def submit(self, task: Task) -> None:
        """Write a new task; see `TaskStore`."""
        token = secrets.token_hex(8)
        try:
            await self._call(
                "PutItem",
                Item=to_item(new_row(task, token)),
                ConditionExpression="attribute_not_exists(pk)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refused:
            if refused.item.get("token") != to_item({"token": token})["token"]:
                raise Unavailable(f"The task id {task.ref.id} is taken.") from refused

    async def submit_once(
        self, task: Task, key: str, request: str, instead_of: str
    ) -> Bound | None:
        """Write a new task and bind a key to it, both or neither; see `TaskStore`."""
        row = new_row(task, secrets.token_hex(8))
        return await self._bindings.put(task, row, key, Bound(task.ref.id, request), instead_of)

    async def binding(self, slug: str, key: str) -> Bound | None:
        """What a key is bound to; see `TaskStore`."""
        return await self._bindings.get(slug, key)

    async def claim(self, ref: TaskRef, owner: str, lease_seconds: float) -> Claimed | Refused:
        """Begin an attempt; see `TaskStore`."""
        now = self.now_ms()
        token = secrets.token_hex(8)
        changes = {"owner": owner, "lease_ms": now + _ms(lease_seconds), "claimed_ms": now}
        try:
            task = await self._move(
                ref,
                CLAIM,
                changes,
                token=token,
                plus={"attempt": 1},
                where="#lease_ms < :now AND #deadline_ms > :now AND #attempt < #attempt_limit",
                values={"now": now},
                names=("deadline_ms", "attempt_limit"),
            )
        except ConditionFailed as refused:
            if not refused.item:
                return Refused(None)
            return await self._refusal(task_of(from_item(refused.item)), now)
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
                return Refused(task_of(from_item(changed.item)) if changed.item else None)
        return Refused(task)

    async def renew(self, task: Task, lease_seconds: float) -> None:
        """Prolong the lease; see `TaskStore`."""
        await self._fenced(task, RENEW, {"lease_ms": self.now_ms() + _ms(lease_seconds)})

    async def hand_back(self, task: Task, *, spared: bool) -> None:
        """End the lease now; see `TaskStore`."""
        plus = {"attempt_limit": 1} if spared else {}
        await self._fenced(task, HAND_BACK, {"lease_ms": 0}, plus=plus)

    async def finish(self, task: Task, outcome: Outcome) -> None:
        """End the task; see `TaskStore`."""
        changes: dict[str, Any] = {
            "status": outcome.status,
            "content_type": outcome.content_type,
            "chunks": outcome.chunks,
        }
        if outcome.tail:
            changes["tail"] = outcome.tail
        if outcome.error:
            changes["error"] = outcome.error
        if outcome.usage:
            changes["usage"] = outcome.usage
        move = FAIL if outcome.error else FINISH
        try:
            await self._fenced(task, move, changes)
        except LeaseLost as lost:
            if not _was_ours(lost, task, move):
                raise

    async def attend(self, task: Task, reader: str, seconds: float) -> bool:
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
        where: str = "",
        values: Mapping[str, Any] = {},
        names: Iterable[str] = (),
        token: str | None = None,
    ) -> Task:
        """
        Make one move as one conditional write: the only place where a state changes.

        ``changes`` are set, ``plus`` is added, ``where`` is a further condition with its
        ``values`` and ``names``. A repeat of our own write, whose response was lost, is told by
        its token and is no failure. A task that has ended leaves the index of live ones. Raises
        ConditionFailed with the row as it was.
        """
        token = token or secrets.token_hex(8)
        changed = {**changes, "state": move.target, "token": token}
        sets = [f"#{name} = :{name}" for name in changed]
        sets += [f"#{name} = #{name} + :plus_{name}" for name in plus]
        sources = {f"from_{state}": state for state in sorted(move.sources)}
        condition = f"#state IN ({', '.join(f':{name}' for name in sources)})"
        gone = f" REMOVE #{LIVE_KEY}" if move.target.terminal else ""
        named = {*changed, *plus, *names, *((LIVE_KEY,) if gone else ())}
        every = {**changed, **{f"plus_{k}": v for k, v in plus.items()}, **sources, **values}
        try:
            answer = await self._call(
                "UpdateItem",
                Key=row_key(ref, STATE_KEY),
                UpdateExpression="SET " + ", ".join(sets) + gone,
                ConditionExpression=f"{condition} AND ({where})" if where else condition,
                ExpressionAttributeNames={f"#{name}": name for name in named},
                ExpressionAttributeValues={f":{k}": v for k, v in to_item(every).items()},
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refused:
            if refused.item.get("token") == {"S": token}:
                return task_of(from_item(refused.item))
            raise
        return task_of(from_item(answer["Attributes"]))

    async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks of any number of tasks; see `TaskStore`."""
        puts = [{"PutRequest": {"Item": to_item(chunk_row(chunk))}} for chunk in chunks]
        await self._batches.write(puts)

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
                found.append(chunk_of(ref, attempt, seq, from_item(item)))

    async def read(self, wanted: Sequence[Wanted], *, consistent: bool = False) -> list[Found]:
        """Read rows and chunks of many tasks at once; see `TaskStore`."""
        # DynamoDB refuses a read that names a row twice, and a task may have several readers.
        names = dict.fromkeys((want.ref, sk) for want in wanted for sk in wanted_keys(want))
        keys = [row_key(*name) for name in names]
        strictly = {"ConsistentRead": True} if consistent else {}
        rows = await self._batches.get(keys, **strictly)
        items = {(i["pk"]["S"], i["sk"]["S"]): i for i in rows}
        return [self._found(want, items) for want in wanted]

    def _found(self, want: Wanted, items: Mapping[tuple[str, str], Item]) -> Found:
        pk = want.ref.pk
        item = items.get((pk, STATE_KEY))
        chunks = []
        for seq in range(want.seq, want.seq + want.count):
            piece = items.get((pk, chunk_key(want.attempt, seq)))
            if piece is not None:
                chunks.append(chunk_of(want.ref, want.attempt, seq, from_item(piece)))
        return Found(self._known(item) if item else None, tuple(chunks))

    def _known(self, item: Item) -> Task:
        """The task that a row tells of, made anew only when the row has moved since it was seen."""
        pk, token = item["pk"]["S"], item["token"]["S"]
        until = item["reader_ms"]["N"] if "reader_ms" in item else ""
        seen = self._seen.get(pk)
        if seen is None or seen[0] != token or seen[1] != until:
            if len(self._seen) >= SEEN_MAX:
                del self._seen[next(iter(self._seen))]
            seen = self._seen[pk] = token, until, task_of(from_item(item))
        return seen[2]

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

    async def states(self, refs: Sequence[TaskRef]) -> dict[TaskRef, Standing]:
        """How each task that exists stands; see `TaskStore`."""
        items = await self._batches.get(
            [row_key(ref, STATE_KEY) for ref in dict.fromkeys(refs)],
            ProjectionExpression="pk, #state, attempt, reader_ms",
            ExpressionAttributeNames={"#state": "state"},
        )
        rows = map(from_item, items)
        return {TaskRef.from_pk(row["pk"]): standing_of(row) for row in rows}

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        request = {"TableName": self._table, **arguments}
        return await call(self._client, "dynamodb", operation, request)


def _was_ours(lost: LeaseLost, task: Task, move: Move) -> bool:
    """Whether the row shows that this very attempt has made ``move`` before."""
    refused = lost.__cause__
    if not isinstance(refused, ConditionFailed) or not refused.item:
        return False
    row = task_of(from_item(refused.item))
    return (row.state, row.attempt, row.owner) == (move.target, task.attempt, task.owner)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
