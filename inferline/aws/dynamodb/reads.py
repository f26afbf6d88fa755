"""Looks: what readers see of their tasks, in as few and as small reads as there can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import call
from inferline.aws.api.items import to_item
from inferline.aws.dynamodb.batches import Batches
from inferline.aws.dynamodb.task_rows import (
    STATE_KEY,
    Item,
    chunk_key,
    read_chunk,
    read_task,
    row_key,
    wanted_keys,
)
from inferline.errors import ProviderFault
from inferline.names import NAME
from inferline.tasks.store import TaskRead, Wanted
from inferline.tasks.task import Chunk, Task

#: How many tasks that readers look at are remembered.
SEEN_MAX: Final = 4096
#: How many pages, of a megabyte each, are read of one task at once: more chunks than are wanted.
PAGES_MAX: Final = 2


class TaskReads:
    """Reads of one table's tasks, which remember what did not change since."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._client = client
        self._table = table
        self._batches = Batches(client, table)
        #: The tasks last seen, by key, with the version of their rows.
        self._seen: dict[str, tuple[tuple[str, str], Task]] = {}

    async def read(self, wanted: Sequence[Wanted], *, consistent: bool = False) -> list[TaskRead]:
        """Read rows and chunks of many tasks at once; see `TaskStore`."""
        strictly = {"ConsistentRead": True} if consistent else {}
        if len(wanted) == 1 and wanted[0].count:
            rows = await self._rest(wanted[0], strictly)
        else:
            # DynamoDB refuses a read that names a row twice, and a task may have several readers.
            names = dict.fromkeys((want.ref.pk, sk) for want in wanted for sk in wanted_keys(want))
            keys = [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in names]
            rows = await self._batches.get(keys, **strictly)
        items = {(item["pk"]["S"], item["sk"]["S"]): item for item in rows}
        return [self._found(want, items) for want in wanted]

    def remember(self, item: Item, task: Task) -> None:
        """Know ``task`` by its row until that moves."""
        if len(self._seen) >= SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[task.ref.pk] = _version(item), task

    async def _rest(self, want: Wanted, strictly: Mapping[str, Any]) -> list[Item]:
        """
        All rows of a task from a chunk on: who reads alone pays for their size, not for each.

        Where there are more than any reader takes at once, those that are wanted.
        """
        request = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :pk AND sk >= :first",
            "ExpressionAttributeValues": to_item(
                {":pk": want.ref.pk, ":first": chunk_key(want.attempt, want.seq)}
            ),
            **strictly,
        }
        found: list[Item] = []
        for _ in range(PAGES_MAX):
            answer = await call(self._client, "dynamodb", "Query", request)
            found += answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return found
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        keys = [row_key(want.ref, sk) for sk in wanted_keys(want)]
        return await self._batches.get(keys, **strictly)

    def _found(self, want: Wanted, items: Mapping[tuple[str, str], Item]) -> TaskRead:
        """
        What there is for one reader. What can't be read is nobody else's trouble, and what DynamoDB
        has yet to delete counts as gone.
        """
        pk, now_s = want.ref.pk, self._client.now_ms() / 1000
        item = items.get((pk, STATE_KEY))
        task, chunks, breach = None, list[Chunk](), ""
        try:
            task = self._known(pk, item) if item else None
            for seq in range(want.seq, want.seq + want.count):
                piece = items.get((pk, chunk_key(want.attempt, seq)))
                if piece is not None:
                    chunks.append(read_chunk(want.ref, want.attempt, seq, piece))
        except ProviderFault as fault:
            breach = fault.breach
        if task is not None and task.ttl <= now_s:
            task = None
        living = tuple(chunk for chunk in chunks if chunk.ttl > now_s)
        return TaskRead(task, living, breach, _holder(item) if item and breach else "")

    def _known(self, pk: str, item: Item) -> Task:
        """The task that a row tells of, made anew only when the row has moved since it was seen."""
        seen = self._seen.get(pk)
        if seen is not None and seen[0] == _version(item):
            return seen[1]
        task = read_task(item)
        self.remember(item, task)
        return task


def _version(item: Item) -> tuple[str, str]:
    """Of a task's row: the token of its last move, and its reader lease, whose renewal is none."""
    return item.get("token", {}).get("S", ""), item.get("reader_ms", {}).get("N", "")


def _holder(item: Item) -> str:
    """Who holds a task whose row may be no row; empty where that can't be read."""
    owner = item.get("owner", {}).get("S", "")
    return owner if NAME.fullmatch(owner) else ""
