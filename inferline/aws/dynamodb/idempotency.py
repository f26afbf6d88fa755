"""Idempotency keys: a row beside the tasks binds a key to the task that it stands for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from inferline.aws.api.errors import TransactionRefused
from inferline.aws.api.items import from_item
from inferline.aws.dynamodb.batches import REFUSED, Batches
from inferline.aws.dynamodb.table import Item, Table, put_request
from inferline.aws.dynamodb.task_rows import row_key
from inferline.background import Backoff
from inferline.errors import Unavailable
from inferline.tasks.store import Binding
from inferline.tasks.task import Task, TaskRef

#: The sort key of a binding. Its partition begins with the model, as all of this table do.
KEY_KEY: Final = "KEY"
BINDING_VERSION: Final = 1
#: How often a transaction is tried that conflicts with another, and the first pause, seconds.
TRIES_MAX: Final = 6
PAUSES: Final = Backoff(0.05)
#: A key is free when it is new, or bound to a task that gives way, or its time is over.
_FREE: Final = "attribute_not_exists(pk) OR #task = :instead OR #ttl < :now"


class Bindings:
    """The bindings in the table of tasks. Every method may raise Unavailable."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._batches = Batches(table)

    async def get(self, slug: str, key: str) -> Binding | None:
        """Return what ``key`` is bound to. A row past its time counts as gone, deleted or not."""
        items = await self._batches.get([_key(slug, key)], ConsistentRead=True)
        rows = [row for row in map(from_item, items) if row["ttl"] >= self._now_s()]
        return _bound(rows[0]) if rows else None

    async def put(
        self, task: Task, row: Mapping[str, Any], key: str, bound: Binding, instead_of: str
    ) -> Binding | None:
        """
        Put the ``row`` of a new ``task`` and the binding of ``key`` to it, in one transaction.

        Return the key's binding if that is another task, unless it is ``instead_of``.
        """
        puts = [
            self._binding(task, key, bound, instead_of),
            put_request(row, "attribute_not_exists(pk)"),
        ]
        for tries in range(TRIES_MAX):
            try:
                await self._table.transact(puts)
            except TransactionRefused as refused:
                if REFUSED in [code for code, _ in refused.reasons]:
                    return _other_binding(refused, task)
            else:
                return None
            await asyncio.sleep(PAUSES.seconds(tries))
        raise Unavailable("The task table is too busy to take the request.")

    def _binding(self, task: Task, key: str, bound: Binding, instead_of: str) -> dict[str, Any]:
        row = {"v": BINDING_VERSION, "task": bound.task_id, "request": bound.request}
        keys = {"pk": _ref(task.ref.slug, key).pk, "sk": KEY_KEY}
        # No id is a space, and not every emulator takes an empty text.
        values = {"instead": instead_of or " ", "now": self._now_s()}
        return put_request({**keys, **row, "ttl": task.ttl}, _FREE, values, show_refused=True)

    def _now_s(self) -> int:
        return self._table.now_ms() // 1000


def _other_binding(refused: TransactionRefused, task: Task) -> Binding | None:
    """Return the key's binding; None if it is this task's own: then only an answer was lost."""
    code, item = refused.reasons[0]
    if code != REFUSED:
        raise Unavailable(f"The task id {task.ref.id} is taken.")
    bound = _bound(from_item(item))
    return None if bound.task_id == task.ref.id else bound


def _bound(row: Mapping[str, Any]) -> Binding:
    return Binding(row["task"], row["request"])


def _ref(slug: str, key: str) -> TaskRef:
    return TaskRef(slug, f"key#{key}")


def _key(slug: str, key: str) -> Item:
    return row_key(_ref(slug, key), KEY_KEY)
