"""Reads of tasks by their readers, in as few and as small calls as possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from inferline.aws.dynamodb.batches import Batches
from inferline.aws.dynamodb.expressions import querying
from inferline.aws.dynamodb.table import Item, Table
from inferline.aws.dynamodb.task_rows import (
    STATE_KEY,
    chunk_key,
    read_chunk,
    read_task,
    row_key,
    wanted_keys,
)
from inferline.errors import ProviderFault
from inferline.expiring import ExpiringMap
from inferline.names import NAME
from inferline.tasks.store import TaskRead, Wanted
from inferline.tasks.task import Chunk, Task

#: How many tasks that were read last are remembered.
SEEN_MAX: Final = 4096
#: How many pages, of a megabyte each, are read of one task at once: more chunks than are wanted.
PAGES_MAX: Final = 2


class TaskReads:
    """Reads of one table's tasks. It remembers the tasks that it read, by their rows' versions."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._batches = Batches(table)
        #: The version of a row, and the task that it holds, by partition key.
        self._seen = ExpiringMap[str, tuple[tuple[str, str], Task]](SEEN_MAX)

    async def read(self, wanted: Sequence[Wanted], *, consistent: bool = False) -> list[TaskRead]:
        """Read rows and chunks of many tasks at once, as `TaskStore.read` does."""
        options = {"ConsistentRead": True} if consistent else {}
        if len(wanted) == 1 and wanted[0].count:
            rows = await self._rest(wanted[0], options)
        else:
            # DynamoDB refuses a read that names a row twice, and a task may have several readers.
            names = dict.fromkeys((want.ref.pk, sk) for want in wanted for sk in wanted_keys(want))
            keys = [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in names]
            rows = await self._batches.get(keys, **options)
        items = {(item["pk"]["S"], item["sk"]["S"]): item for item in rows}
        return [self._task_read(want, items) for want in wanted]

    def remember(self, write_id: str, task: Task) -> None:
        """Remember a task by the id of its row's last move, until the row changes."""
        self._seen.put(task.ref.pk, ((write_id, str(task.reader_ms)), task))

    async def _rest(self, want: Wanted, options: Mapping[str, Any]) -> list[Item]:
        """
        Read all rows of a task from a chunk on: one reader pays for their size, not for each row.

        Where there are more than any reader takes at once, read only the wanted ones.
        """
        request = querying(want.ref.pk, chunk_key(want.attempt, want.seq))
        request |= options
        items: list[Item] = []
        for _ in range(PAGES_MAX):
            answer = await self._table.call("Query", request)
            items += answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return items
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        keys = [row_key(want.ref, sk) for sk in wanted_keys(want)]
        return await self._batches.get(keys, **options)

    def _task_read(self, want: Wanted, items: Mapping[tuple[str, str], Item]) -> TaskRead:
        """
        Build the result for one reader.

        Rows that can't be read affect no other reader; rows past their time count as gone.
        """
        pk, now_s = want.ref.pk, self._table.now_ms() / 1000
        item = items.get((pk, STATE_KEY))
        task, chunks, breach = None, list[Chunk](), ""
        try:
            task = self._known(pk, item) if item else None
            for seq in range(want.seq, want.seq + want.count):
                chunk_item = items.get((pk, chunk_key(want.attempt, seq)))
                if chunk_item is not None:
                    chunks.append(read_chunk(want.ref, want.attempt, seq, chunk_item))
        except ProviderFault as fault:
            breach = fault.breach
        if task is not None and task.ttl <= now_s:
            task = None
        current = tuple(chunk for chunk in chunks if chunk.ttl > now_s)
        return TaskRead(task, current, breach, _owner(item) if item and breach else "")

    def _known(self, pk: str, item: Item) -> Task:
        """Return the task of a row, parsed only if the row has changed since it was read last."""
        seen, version = self._seen.get(pk), _version(item)
        if seen is not None and seen[0] == version:
            return seen[1]
        task = read_task(item)
        self.remember(version[0], task)
        return task


def _version(item: Item) -> tuple[str, str]:
    """Return a task row's version: the id of its last move and its reader lease."""
    return item.get("token", {}).get("S", ""), item.get("reader_ms", {}).get("N", "0")


def _owner(item: Item) -> str:
    """Return the owner of a task whose row can't be read; empty if that can't be read either."""
    owner = item.get("owner", {}).get("S", "")
    return owner if NAME.fullmatch(owner) else ""
