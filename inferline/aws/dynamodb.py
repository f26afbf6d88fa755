"""The task store on DynamoDB: one table, a task's chunks and its STATE row under one key."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from inferline.aws.client import AwsClient
from inferline.aws.faults import ConditionFailed, call
from inferline.aws.items import from_item, to_item
from inferline.errors import BackendFailed, LeaseLost, Unavailable
from inferline.store import Claimed, Found, Outcome, Refused, Wanted
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
    Head,
    Move,
    State,
    Task,
    TaskRef,
)

#: The row's schema, so that a later release can tell.
ROW_VERSION: Final = 1
STATE_KEY: Final = "STATE"
#: A row's attribute and an index on it, by deadline: only rows of live tasks have it.
LIVE_KEY: Final = "live"
#: DynamoDB's limits on one call, items.
WRITE_MAX: Final = 25
READ_MAX: Final = 100
#: How often what DynamoDB left undone of a batch is asked again, and the first pause, seconds.
BATCH_TRIES_MAX: Final = 6
BATCH_PAUSE_SECONDS: Final = 0.05
#: How many tasks that readers look at are remembered.
SEEN_MAX: Final = 4096

_ROW_FIELDS: Final = tuple(f.name for f in fields(Task) if f.name != "ref")

Item = dict[str, Any]


class DynamoTaskStore:
    """`TaskStore` on one table. The client's clock, which is AWS's, judges leases and deadlines."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._client = client
        self._table = table
        #: The tasks last seen by readers, with the token of the move that made them so.
        self._seen: dict[str, tuple[str, Task]] = {}

    def now_ms(self) -> int:
        """Milliseconds since 1970 by AWS's clock."""
        return self._client.now_ms()

    async def submit(self, task: Task) -> None:
        """Write a new task; see `TaskStore`."""
        token = secrets.token_hex(8)
        row = {name: getattr(task, name) for name in _ROW_FIELDS}
        row |= {"pk": task.ref.pk, "sk": STATE_KEY, "v": ROW_VERSION, "token": token}
        row[LIVE_KEY] = task.ref.slug
        try:
            await self._call(
                "PutItem",
                Item=to_item({k: v for k, v in row.items() if v not in ("", b"", {})}),
                ConditionExpression="attribute_not_exists(pk)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refused:
            if refused.item.get("token") != to_item({"token": token})["token"]:
                raise Unavailable(f"The task id {task.ref.id} is taken.") from refused

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
            return await self._refusal(_task(from_item(refused.item)), now)
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
                return Refused(_task(from_item(changed.item)) if changed.item else None)
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

    async def cancel(self, ref: TaskRef) -> bool:
        """Make a live task CANCELLED; see `TaskStore`."""
        return await self._end(ref, CANCEL)

    async def expire(self, ref: TaskRef) -> bool:
        """Make a live task EXPIRED; see `TaskStore`."""
        return await self._end(ref, EXPIRE)

    async def bury(self, ref: TaskRef, error: Mapping[str, Any]) -> bool:
        """Make a live task FAILED, unless somebody holds it; see `TaskStore`."""
        unheld, now = "#lease_ms < :now", {"now": self.now_ms()}
        try:
            await self._move(
                ref, BURY, {"error": dict(error)}, where=unheld, values=now, names=("lease_ms",)
            )
        except ConditionFailed:
            return False
        return True

    async def _end(self, ref: TaskRef, move: Move) -> bool:
        try:
            await self._move(ref, move, {})
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
                Key=_key(ref, STATE_KEY),
                UpdateExpression="SET " + ", ".join(sets) + gone,
                ConditionExpression=f"{condition} AND ({where})" if where else condition,
                ExpressionAttributeNames={f"#{name}": name for name in named},
                ExpressionAttributeValues={f":{k}": v for k, v in to_item(every).items()},
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refused:
            if refused.item.get("token") == {"S": token}:
                return _task(from_item(refused.item))
            raise
        return _task(from_item(answer["Attributes"]))

    async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks of any number of tasks; see `TaskStore`."""
        puts = [{"PutRequest": {"Item": to_item(_chunk_row(chunk))}} for chunk in chunks]
        batches = [puts[i : i + WRITE_MAX] for i in range(0, len(puts), WRITE_MAX)]
        await asyncio.gather(*(self._write(batch) for batch in batches))

    async def _write(self, puts: list[Item]) -> None:
        for tried in range(BATCH_TRIES_MAX):
            answer = await call(
                self._client, "dynamodb", "BatchWriteItem", {"RequestItems": {self._table: puts}}
            )
            puts = answer.get("UnprocessedItems", {}).get(self._table, [])
            if not puts:
                return
            await asyncio.sleep(BATCH_PAUSE_SECONDS * 2**tried)
        raise Unavailable("The task table is too busy to take the answer.")

    async def read(self, wanted: Sequence[Wanted]) -> list[Found]:
        """Read rows and chunks of many tasks at once; see `TaskStore`."""
        keys = [_key(want.ref, sk) for want in wanted for sk in _wanted_keys(want)]
        items = {(i["pk"]["S"], i["sk"]["S"]): i for i in await self._get(keys)}
        return [self._found(want, items) for want in wanted]

    def _found(self, want: Wanted, items: Mapping[tuple[str, str], Item]) -> Found:
        pk = want.ref.pk
        item = items.get((pk, STATE_KEY))
        chunks = []
        for seq in range(want.seq, want.seq + want.count):
            piece = items.get((pk, _chunk_key(want.attempt, seq)))
            if piece is not None:
                chunks.append(_chunk(want.ref, want.attempt, seq, from_item(piece)))
        return Found(self._known(item) if item else None, tuple(chunks))

    def _known(self, item: Item) -> Task:
        """The task that a row tells of, made anew only when the row has moved since it was seen."""
        pk, token = item["pk"]["S"], item["token"]["S"]
        seen = self._seen.get(pk)
        if seen is None or seen[0] != token:
            if len(self._seen) >= SEEN_MAX:
                del self._seen[next(iter(self._seen))]
            seen = self._seen[pk] = token, _task(from_item(item))
        return seen[1]

    async def live(self, slug: str, limit: int) -> list[tuple[TaskRef, int]]:
        """Up to ``limit`` live tasks of a model, the earliest deadline first; see `TaskStore`."""
        found: list[tuple[TaskRef, int]] = []
        start: Item | None = None
        while True:
            answer = await self._call(
                "Query",
                IndexName=LIVE_KEY,
                KeyConditionExpression="#live = :slug",
                ExpressionAttributeNames={"#live": LIVE_KEY},
                ExpressionAttributeValues=to_item({":slug": slug}),
                Limit=limit - len(found),
                **({"ExclusiveStartKey": start} if start else {}),
            )
            rows = map(from_item, answer["Items"])
            found += [(TaskRef.from_pk(row["pk"]), row["deadline_ms"]) for row in rows]
            start = answer.get("LastEvaluatedKey")
            if start is None or len(found) >= limit:
                return found

    async def states(self, refs: Sequence[TaskRef]) -> dict[TaskRef, tuple[State, int]]:
        """The state and attempt of each task that exists; see `TaskStore`."""
        items = await self._get(
            [_key(ref, STATE_KEY) for ref in refs],
            ProjectionExpression="pk, #state, attempt",
            ExpressionAttributeNames={"#state": "state"},
        )
        rows = map(from_item, items)
        return {TaskRef.from_pk(r["pk"]): (State(r["state"]), r["attempt"]) for r in rows}

    async def _get(self, keys: list[Item], **projection: Any) -> list[Item]:
        """The rows at ``keys`` that exist, marshalled, in any order."""
        batches = [keys[i : i + READ_MAX] for i in range(0, len(keys), READ_MAX)]
        found = await asyncio.gather(*(self._get_batch(b, projection) for b in batches))
        return [item for items in found for item in items]

    async def _get_batch(self, keys: list[Item], projection: Mapping[str, Any]) -> list[Item]:
        found: list[Item] = []
        for tried in range(BATCH_TRIES_MAX):
            request = {"RequestItems": {self._table: {"Keys": keys, **projection}}}
            answer = await call(self._client, "dynamodb", "BatchGetItem", request)
            found += answer.get("Responses", {}).get(self._table, [])
            keys = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
            if not keys:
                return found
            await asyncio.sleep(BATCH_PAUSE_SECONDS * 2**tried)
        raise Unavailable("The task table is too busy to be read.")

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        request = {"TableName": self._table, **arguments}
        return await call(self._client, "dynamodb", operation, request)


def _was_ours(lost: LeaseLost, task: Task, move: Move) -> bool:
    """Whether the row shows that this very attempt has made ``move`` before."""
    refused = lost.__cause__
    if not isinstance(refused, ConditionFailed) or not refused.item:
        return False
    row = _task(from_item(refused.item))
    return (row.state, row.attempt, row.owner) == (move.target, task.attempt, task.owner)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _key(ref: TaskRef, sk: str) -> Item:
    return {"pk": {"S": ref.pk}, "sk": {"S": sk}}


def _chunk_key(attempt: int, seq: int) -> str:
    return f"A{attempt:03}#{seq:06}"


def _wanted_keys(want: Wanted) -> list[str]:
    seqs = range(want.seq, want.seq + want.count)
    return [STATE_KEY, *(_chunk_key(want.attempt, seq) for seq in seqs)]


def _chunk_row(chunk: Chunk) -> dict[str, Any]:
    row: dict[str, Any] = {
        "pk": chunk.ref.pk,
        "sk": _chunk_key(chunk.attempt, chunk.seq),
        "data": chunk.data,
        "ttl": chunk.ttl,
    }
    if chunk.head is not None:
        head = chunk.head
        row["head"] = [head.status, head.content_type, head.provider, head.queue_ms]
    return row


def _chunk(ref: TaskRef, attempt: int, seq: int, row: Mapping[str, Any]) -> Chunk:
    head = Head(*row["head"]) if "head" in row else None
    return Chunk(ref, attempt, seq, row["data"], row["ttl"], head)


def _task(row: Mapping[str, Any]) -> Task:
    known = {name: row[name] for name in _ROW_FIELDS if name in row}
    known["state"] = State(known["state"])
    return Task(ref=TaskRef.from_pk(row["pk"]), **known)
