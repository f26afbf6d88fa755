"""One DynamoDB table: its calls, with plain values in place of typed ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, Literal

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import translated
from inferline.aws.api.items import from_item, to_item
from inferline.aws.dynamodb.expressions import (
    conditional,
    querying,
    querying_index,
    updating,
)

#: A row or a key with DynamoDB's typed values, as `to_item` makes it.
Item = dict[str, Any]
#: The row that a write returns: as it was, as it is, or only the attributes that were written.
Returned = Literal["", "ALL_OLD", "ALL_NEW", "UPDATED_NEW"]


class Table:
    """
    One table. Its methods raise Unavailable, and ConditionFailed where a condition does not hold.

    Conditions are written in DynamoDB's language: ``#name`` is an attribute, ``:name`` one of the
    ``values`` or a new value of the same write. ``show_refused`` puts the row that did not meet its
    condition into ConditionFailed.
    """

    def __init__(self, client: AwsClient, name: str) -> None:
        self.client = client
        self.name = name

    def now_ms(self) -> int:
        """Return AWS's time, milliseconds since 1970."""
        return self.client.now_ms()

    async def get(self, key: Item) -> Item:
        """Read the row at a key, consistently. Return an empty item where there is none."""
        answer = await self.call("GetItem", {"Key": key, "ConsistentRead": True})
        return answer.get("Item") or {}

    async def put(
        self,
        row: Mapping[str, Any],
        *,
        condition: str = "",
        values: Mapping[str, Any] = {},
        returns: Returned = "",
        show_refused: bool = False,
    ) -> Item:
        """Write a whole row. Return the row that ``returns`` names."""
        request = put_request(row, condition, values, show_refused=show_refused)
        if returns:
            request["ReturnValues"] = returns
        answer = await self.call("PutItem", request)
        return answer.get("Attributes") or {}

    async def update(
        self,
        key: Item,
        *,
        set: Mapping[str, Any] = {},
        add: Mapping[str, int] = {},
        remove: Sequence[str] = (),
        condition: str = "",
        values: Mapping[str, Any] = {},
        returns: Returned = "",
        show_refused: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109  # as in AwsClient.call()
    ) -> Item:
        """
        Change attributes of a row, which is made if there is none. Return what ``returns`` names.

        ``set`` may hold `IfAbsent` and `CopyOf` in place of values.
        """
        request = {"Key": key, **updating(set, add, remove, condition, values)}
        if returns:
            request["ReturnValues"] = returns
        if show_refused:
            request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        answer = await self.call("UpdateItem", request, timeout)
        return answer.get("Attributes") or {}

    async def delete(
        self, key: Item, *, condition: str = "", values: Mapping[str, Any] = {}
    ) -> None:
        """Delete the row at a key, if there is one."""
        await self.call("DeleteItem", {"Key": key, **conditional(condition, values)})

    async def query(
        self,
        partition: str,
        first: str = "",
        last: str = "",
        *,
        limit: int | None = None,
        consistent: bool = False,
    ) -> AsyncIterator[Item]:
        """Yield the items of a partition by their sort keys, from ``first`` to ``last``."""
        request = querying(partition, first, last) | {"ConsistentRead": consistent}
        async for item in self._items("Query", request, limit):
            yield item

    async def query_after(
        self, partition: str, after: str, *, ascending: bool, page: int
    ) -> AsyncIterator[Item]:
        """
        Yield the items of a partition by their sort keys, up or down, behind the key ``after``.

        That key need not exist; "" is the first. Each call reads ``page`` items.
        """
        request = querying(partition) | {"ScanIndexForward": ascending, "Limit": page}
        if after:
            request["ExclusiveStartKey"] = key_of(partition, after)
        async for item in self._items("Query", request, None):
            yield item

    async def query_index(
        self, index: str, value: str, limit: int | None = None
    ) -> AsyncIterator[Item]:
        """Yield the items of an index that have a value, by their sort keys."""
        async for item in self._items("Query", querying_index(index, value), limit):
            yield item

    async def rows(
        self, partition: str, first: str = "", *, consistent: bool = False
    ) -> list[dict[str, Any]]:
        """Read the rows of a partition, with plain values, by their sort keys."""
        items = self.query(partition, first, consistent=consistent)
        return [from_item(item) async for item in items]

    async def scan(self, index: str, limit: int) -> AsyncIterator[Item]:
        """Yield up to ``limit`` items of an index, in no order."""
        async for item in self._items("Scan", {"IndexName": index}, limit):
            yield item

    def call(
        self, operation: str, request: Mapping[str, Any], timeout: float | None = None
    ) -> Awaitable[dict[str, Any]]:
        """Call an operation on this table. Return its answer as it is."""
        return self._call(operation, {"TableName": self.name, **request}, timeout)

    def batch(self, operation: str, request: Any) -> Awaitable[dict[str, Any]]:
        """Call an operation on many rows of this table. Return its answer as it is."""
        return self._call(operation, {"RequestItems": {self.name: request}})

    async def transact(self, puts: Sequence[Mapping[str, Any]]) -> None:
        """Make all ``puts``, of `put_request`, or none. Raises TransactionRefused."""
        items = [{"Put": {"TableName": self.name, **put}} for put in puts]
        await self._call("TransactWriteItems", {"TransactItems": items})

    def _call(
        self, operation: str, request: Mapping[str, Any], timeout: float | None = None
    ) -> Awaitable[dict[str, Any]]:
        # No coroutine of its own: each would cost time in every call.
        return translated(self.client.call("dynamodb", operation, request, timeout=timeout))

    async def _items(
        self, operation: str, request: dict[str, Any], limit: int | None
    ) -> AsyncIterator[Item]:
        """Call page after page, until there are ``limit`` items."""
        count = 0
        while True:
            if limit is not None:
                request["Limit"] = limit - count
            answer = await self.call(operation, request)
            for item in answer["Items"]:
                yield item
            count += len(answer["Items"])
            start = answer.get("LastEvaluatedKey")
            if not start or (limit is not None and count >= limit):
                return
            request["ExclusiveStartKey"] = start


def key_of(partition: str, sort_key: str) -> Item:
    """Return the key of a row, with typed values."""
    return {"pk": {"S": partition}, "sk": {"S": sort_key}}


def put_request(
    row: Mapping[str, Any],
    condition: str = "",
    values: Mapping[str, Any] = {},
    *,
    show_refused: bool = False,
) -> dict[str, Any]:
    """Build the request that puts a row, for a transaction as well."""
    request = {"Item": to_item(row), **conditional(condition, values)}
    if show_refused:
        request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    return request
