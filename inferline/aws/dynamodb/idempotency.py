"""Idempotency keys: a row beside the tasks says which task a key stands for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import TransactionRefused, call
from inferline.aws.api.items import from_item, to_item
from inferline.aws.dynamodb.batches import Batches
from inferline.aws.dynamodb.task_rows import row_key
from inferline.errors import Unavailable
from inferline.tasks.store import Bound
from inferline.tasks.task import Task, TaskRef

#: The sort key of a binding. Its partition begins with the model, as every other of the table.
KEY_KEY: Final = "KEY"
BINDING_VERSION: Final = 1
#: How often a transaction is tried that met another one, and the first pause, seconds.
TRIES_MAX: Final = 6
PAUSE_SECONDS: Final = 0.05
_REFUSED: Final = "ConditionalCheckFailed"


class Bindings:
    """The bindings in the table of tasks. Every method may raise Unavailable."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._client = client
        self._table = table
        self._batches = Batches(client, table)

    async def get(self, slug: str, key: str) -> Bound | None:
        """What ``key`` is bound to. DynamoDB deletes late what is over: it counts as gone."""
        rows = await self._batches.get([_key(slug, key)], ConsistentRead=True)
        found = [row for row in map(from_item, rows) if row["ttl"] >= self._now_s()]
        return _bound(found[0]) if found else None

    async def put(
        self, task: Task, row: Mapping[str, Any], key: str, bound: Bound, instead_of: str
    ) -> Bound | None:
        """
        Put the ``row`` of a new ``task`` and the binding of ``key`` to it, in one transaction.

        What the key is bound to when that is another task, but for ``instead_of``.
        """
        binding = self._binding(task, key, bound, instead_of)
        new = {
            "TableName": self._table,
            "Item": to_item(row),
            "ConditionExpression": "attribute_not_exists(pk)",
        }
        transaction = {"TransactItems": [{"Put": binding}, {"Put": new}]}
        for tried in range(TRIES_MAX):
            try:
                await call(self._client, "dynamodb", "TransactWriteItems", transaction)
            except TransactionRefused as refused:
                if _REFUSED in [code for code, _ in refused.reasons]:
                    return _other(refused, task)
            else:
                return None
            await asyncio.sleep(PAUSE_SECONDS * 2**tried)
        raise Unavailable("The task table is too busy to take the request.")

    def _binding(self, task: Task, key: str, bound: Bound, instead_of: str) -> dict[str, Any]:
        row = {"v": BINDING_VERSION, "task": bound.task_id, "request": bound.request}
        # No id is a space, and not every emulator takes an empty text.
        values = {":instead": instead_of or " ", ":now": self._now_s()}
        return {
            "TableName": self._table,
            "Item": _key(task.ref.slug, key) | to_item({**row, "ttl": task.ttl}),
            "ConditionExpression": "attribute_not_exists(pk) OR #task = :instead OR #ttl < :now",
            "ExpressionAttributeNames": {"#task": "task", "#ttl": "ttl"},
            "ExpressionAttributeValues": to_item(values),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _now_s(self) -> int:
        return self._client.now_ms() // 1000


def _other(refused: TransactionRefused, task: Task) -> Bound | None:
    """What the key is bound to; None if that is this task: then an answer to us was lost."""
    code, item = refused.reasons[0]
    if code != _REFUSED:
        raise Unavailable(f"The task id {task.ref.id} is taken.")
    found = _bound(from_item(item))
    return None if found.task_id == task.ref.id else found


def _bound(row: Mapping[str, Any]) -> Bound:
    return Bound(row["task"], row["request"])


def _key(slug: str, key: str) -> dict[str, Any]:
    return row_key(TaskRef(slug, f"key#{key}"), KEY_KEY)
