"""
The usage ledger on DynamoDB: an index of the tasks table finds tasks that have ended, and one
partition of the registry table holds what they add up to.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import ConditionFailed, call
from inferline.aws.api.items import from_item, from_value, to_item
from inferline.aws.dynamodb.batches import Batches
from inferline.aws.dynamodb.pages import queried
from inferline.aws.dynamodb.task_rows import ENDED_FIELDS, ENDED_KEY, SHARDS, Item, ended_key
from inferline.tasks.task import TaskRef
from inferline.usage.usage import (
    DAY_MS,
    HOUR,
    HOUR_DAYS_KEPT,
    SLICE_MS,
    Parts,
    Resolution,
    TaskUsage,
    Usage,
    UsageKey,
    UsageRow,
    Watermarks,
)

USAGE: Final = "USAGE"
#: The row's schema, so that a later release can tell.
ROW_VERSION: Final = 1
#: How many rows are written at once.
WRITES_MAX: Final = 25
#: The name of the row that says how far counting has come. As those of hours it begins with what
#: no tenant has in its name, and sorts before every tenant's.
_PROGRESS: Final = "#progress"
_FIRST_TENANT: Final = "$"
_LAST_TENANT: Final = "\x7f"
#: Ends the names of a tenant's rows: the next character that sorts behind "#".
_BEHIND: Final = "$"


class DynamoUsage:
    """`UsageStore` on both tables. The client's clock, which is AWS's, says what is over."""

    def __init__(self, client: AwsClient, tasks: str, registry: str, days_kept: int) -> None:
        """``days_kept``: how long the row of a day stays."""
        self._client = client
        self._tasks = tasks
        self._registry = registry
        self._days_kept = days_kept
        self._batches = Batches(client, registry)

    def now_ms(self) -> int:
        """Milliseconds since 1970 by AWS's clock."""
        return self._client.now_ms()

    async def ended(self, slice_number: int) -> AsyncIterator[TaskUsage]:
        """The tasks that ended in a slice; see `UsageStore`."""
        for shard in range(SHARDS):
            asked = {
                "TableName": self._tasks,
                "IndexName": ENDED_KEY,
                "KeyConditionExpression": "#ended = :ended",
                "ExpressionAttributeNames": {"#ended": ENDED_KEY},
                "ExpressionAttributeValues": to_item({":ended": ended_key(slice_number, shard)}),
            }
            async for item in queried(self._client, asked):
                spent = TaskUsage.of(
                    TaskRef.from_pk(item["pk"]["S"]).id, _readable(item, slice_number)
                )
                if spent is not None:
                    yield spent

    async def parts(
        self, grain: Resolution, number: int, accounts: Collection[UsageKey]
    ) -> dict[UsageKey, Parts]:
        """What is kept of these accounts; see `UsageStore`."""
        keys = [_key(_name(account, grain, number)) for account in accounts]
        rows = [_row(item) for item in await self._batches.get(keys, ConsistentRead=True)]
        return {row.account: row.parts for row in rows}

    async def put(
        self, grain: Resolution, number: int, part: int, found: Mapping[UsageKey, Usage]
    ) -> None:
        """Set one part of each account's row; see `UsageStore`."""
        each = list(found.items())
        for start in range(0, len(each), WRITES_MAX):
            some = each[start : start + WRITES_MAX]
            await asyncio.gather(*(self._put(grain, number, part, *one) for one in some))

    async def progress(self) -> Watermarks:
        """How far counting has come; see `UsageStore`."""
        request = {"Key": _key(_PROGRESS), "ConsistentRead": True}
        answer = await self._call("GetItem", request)
        row = from_item(answer.get("Item") or {})
        return Watermarks(row.get("once", 0), row.get("twice", 0))

    async def advance(self, progress: Watermarks) -> None:
        """Say how far counting has come; see `UsageStore`."""
        for name, number in progress._asdict().items():
            if not number:
                continue
            request = {
                "Key": _key(_PROGRESS),
                "UpdateExpression": "SET #name = :number",
                "ConditionExpression": "attribute_not_exists(#name) OR #name < :number",
                "ExpressionAttributeNames": {"#name": name},
                "ExpressionAttributeValues": to_item({":number": number}),
            }
            with suppress(ConditionFailed):
                await self._call("UpdateItem", request)

    async def rows(
        self, tenant: str | None, grain: Resolution, first: int, end: int
    ) -> AsyncIterator[UsageRow]:
        """The rows of one tenant or of all; see `UsageStore`."""
        async for span in self._spans(tenant, grain, first, end):
            asked = _named(*span) | {"TableName": self._registry, "ConsistentRead": True}
            async for item in queried(self._client, asked):
                yield _row(item)

    async def _spans(
        self, tenant: str | None, grain: Resolution, first: int, end: int
    ) -> AsyncIterator[tuple[str, str]]:
        """Between which names the rows are: those of an hour stand together, a tenant's days do."""
        if grain is HOUR and tenant is None:
            yield _hour(first), _hour(end)
        elif grain is HOUR:
            for number in range(first, end):
                yield f"{_hour(number)}#{tenant}#", f"{_hour(number)}#{tenant}{_BEHIND}"
        elif tenant is not None:
            yield _day(tenant, first), _day(tenant, end)
        else:
            found = await self._next_tenant(_FIRST_TENANT)
            while found:
                yield _day(found, first), _day(found, end)
                found = await self._next_tenant(found + _BEHIND)

    async def _next_tenant(self, first: str) -> str:
        """The first tenant that has rows of a name from ``first`` on; empty for none."""
        answer = await self._call("Query", _named(first, _LAST_TENANT) | {"Limit": 1})
        return str(answer["Items"][0]["tenant"]["S"]) if answer["Items"] else ""

    async def _put(
        self, grain: Resolution, number: int, part: int, account: UsageKey, usage: Usage
    ) -> None:
        values = {
            **account._asdict(),
            "v": ROW_VERSION,
            "number": number,
            "ttl": (number + 1) * grain.ms // 1000 + self._seconds_kept(grain),
            _part_name(part): usage.row(),
        }
        # None of the row's names is tried for being reserved: all go in by another.
        sets = ", ".join(f"#{i} = :{i}" for i in range(len(values)))
        own = len(values) - 1
        request = {
            "Key": _key(_name(account, grain, number)),
            "UpdateExpression": f"SET {sets}",
            "ConditionExpression": f"attribute_not_exists(#{own}) OR #{own}[0] <= :requests",
            "ExpressionAttributeNames": {f"#{i}": name for i, name in enumerate(values)},
            "ExpressionAttributeValues": to_item(
                {f":{i}": value for i, value in enumerate(values.values())}
                | {":requests": usage.requests}
            ),
        }
        with suppress(ConditionFailed):
            await self._call("UpdateItem", request)

    def _seconds_kept(self, grain: Resolution) -> int:
        days = min(HOUR_DAYS_KEPT, self._days_kept) if grain is HOUR else self._days_kept
        return days * DAY_MS // 1000

    async def _call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        asked = {"TableName": self._registry, **request}
        return await call(self._client, "dynamodb", operation, asked)


def _key(name: str) -> Item:
    return to_item({"pk": USAGE, "sk": name})


def _hour(number: int) -> str:
    """How the names of all rows of one hour begin; they sort by time."""
    return f"#H{number:08}"


def _day(tenant: str, number: int) -> str:
    """How the names of a tenant's rows of one day begin."""
    return f"{tenant}#D{number:08}"


def _name(account: UsageKey, grain: Resolution, number: int) -> str:
    """The name of an account's row. What tells accounts of a tenant apart may be of any length."""
    rest = "\0".join(account[1:])
    digest = hashlib.sha256(rest.encode()).hexdigest()[:16]
    tenant = account.tenant
    begin = f"{_hour(number)}#{tenant}" if grain is HOUR else _day(tenant, number)
    return f"{begin}#{digest}"


def _part_name(part: int) -> str:
    return f"p{part:02}"


def _named(first: str, last: str) -> dict[str, Any]:
    """A query of the rows whose names are in a range."""
    values = {":kind": USAGE, ":first": first, ":last": last}
    return {
        "KeyConditionExpression": "pk = :kind AND sk BETWEEN :first AND :last",
        "ExpressionAttributeValues": to_item(values),
    }


def _row(item: Item) -> UsageRow:
    found = from_item(item)
    names = {name: int(name[1:]) for name in found if name[0] == "p" and name[1:].isdigit()}
    account = UsageKey(*(found[name] for name in UsageKey._fields))
    parts = {part: Usage.of_row(found[name]) for name, part in names.items()}
    return UsageRow(account, found["number"], parts)


def _readable(item: Item, slice_number: int) -> dict[str, Any]:
    """
    The fields of an ended task's row that can be read: a provider may have written them.

    Its end is within the slice that it was found in.
    """
    found = {}
    for name in ENDED_FIELDS:
        with suppress(KeyError, TypeError, ValueError):
            found[name] = from_value(item[name])
    first = slice_number * SLICE_MS
    told = found.get("ended_ms", first)
    ended = told if type(told) is int else first
    return {**found, "ended_ms": min(max(first, ended), first + SLICE_MS - 1)}
