"""
The usage ledger on DynamoDB: an index of the tasks table finds the tasks that have ended, and one
partition of the registry table holds their sums.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import ConditionFailed
from inferline.aws.api.items import from_item, from_value
from inferline.aws.dynamodb.batches import Batches
from inferline.aws.dynamodb.table import Item, Table, key_of
from inferline.aws.dynamodb.task_rows import ENDED_FIELDS, ENDED_KEY, SHARDS, ended_key
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
#: The sort key of the row with the watermarks. Like the keys of hours it begins with a character
#: that no tenant has in its name, and sorts before every tenant.
_PROGRESS: Final = "#progress"
_FIRST_TENANT: Final = "$"
_LAST_TENANT: Final = "\x7f"
#: Ends the range of a tenant's sort keys: the next character that sorts after "#".
_NEXT: Final = "$"


class DynamoUsage:
    """`UsageStore` on both tables. The client's clock, which is AWS's, says what is over."""

    def __init__(self, client: AwsClient, tasks: str, registry: str, days_kept: int) -> None:
        """``days_kept``: how long the row of a day is kept."""
        self._tasks = Table(client, tasks)
        self._registry = Table(client, registry)
        self._days_kept = days_kept
        self._batches = Batches(self._registry)

    def now_ms(self) -> int:
        return self._registry.now_ms()

    async def ended(self, slice_number: int) -> AsyncIterator[TaskUsage]:
        for shard in range(SHARDS):
            items = self._tasks.query_index(ENDED_KEY, ended_key(slice_number, shard))
            async for item in items:
                task_id = TaskRef.from_pk(item["pk"]["S"]).id
                usage = TaskUsage.from_row(task_id, _readable(item, slice_number))
                if usage is not None:
                    yield usage

    async def parts(
        self, resolution: Resolution, number: int, usage_keys: Collection[UsageKey]
    ) -> dict[UsageKey, Parts]:
        keys = [key_of(USAGE, _sort_key(usage_key, resolution, number)) for usage_key in usage_keys]
        rows = [_row(item) for item in await self._batches.get(keys, ConsistentRead=True)]
        return {row.usage_key: row.parts for row in rows}

    async def put(
        self, resolution: Resolution, number: int, part: int, sums: Mapping[UsageKey, Usage]
    ) -> None:
        entries = list(sums.items())
        for start in range(0, len(entries), WRITES_MAX):
            batch = entries[start : start + WRITES_MAX]
            await asyncio.gather(
                *(
                    self._put(resolution, number, part, usage_key, usage)
                    for usage_key, usage in batch
                )
            )

    async def watermarks(self) -> Watermarks:
        row = from_item(await self._registry.get(key_of(USAGE, _PROGRESS)))
        return Watermarks(row.get("once", 0), row.get("twice", 0))

    async def advance(self, watermarks: Watermarks) -> None:
        numbers = {"once": watermarks.first_pass, "twice": watermarks.final_pass}
        for name, number in numbers.items():
            if not number:
                continue
            with suppress(ConditionFailed):
                await self._registry.update(
                    key_of(USAGE, _PROGRESS),
                    set={name: number},
                    condition=f"attribute_not_exists(#{name}) OR #{name} < :{name}",
                )

    async def rows(
        self, tenant: str | None, resolution: Resolution, first: int, end: int
    ) -> AsyncIterator[UsageRow]:
        async for begin, last in self._spans(tenant, resolution, first, end):
            async for item in self._registry.query(USAGE, begin, last, consistent=True):
                yield _row(item)

    async def _spans(
        self, tenant: str | None, resolution: Resolution, first: int, end: int
    ) -> AsyncIterator[tuple[str, str]]:
        """Yield ranges of sort keys: the rows of an hour lie together, and a tenant's days do."""
        if resolution is HOUR and tenant is None:
            yield _hour(first), _hour(end)
        elif resolution is HOUR:
            for number in range(first, end):
                yield f"{_hour(number)}#{tenant}#", f"{_hour(number)}#{tenant}{_NEXT}"
        elif tenant is not None:
            yield _day(tenant, first), _day(tenant, end)
        else:
            next_tenant = await self._next_tenant(_FIRST_TENANT)
            while next_tenant:
                yield _day(next_tenant, first), _day(next_tenant, end)
                next_tenant = await self._next_tenant(next_tenant + _NEXT)

    async def _next_tenant(self, first: str) -> str:
        """Return the first tenant with rows whose name is not before ``first``; empty for none."""
        async for item in self._registry.query(USAGE, first, _LAST_TENANT, limit=1):
            return str(item["tenant"]["S"])
        return ""

    async def _put(
        self, resolution: Resolution, number: int, part: int, usage_key: UsageKey, usage: Usage
    ) -> None:
        name = _part_name(part)
        changes = {
            **usage_key._asdict(),
            "v": ROW_VERSION,
            "number": number,
            "ttl": (number + 1) * resolution.ms // 1000 + self._seconds_kept(resolution),
            name: usage.to_row(),
        }
        with suppress(ConditionFailed):  # The row has a sum over more requests.
            await self._registry.update(
                key_of(USAGE, _sort_key(usage_key, resolution, number)),
                set=changes,
                condition=f"attribute_not_exists(#{name}) OR #{name}[0] <= :requests",
                values={"requests": usage.requests},
            )

    def _seconds_kept(self, resolution: Resolution) -> int:
        days = min(HOUR_DAYS_KEPT, self._days_kept) if resolution is HOUR else self._days_kept
        return days * DAY_MS // 1000


def _hour(number: int) -> str:
    """Return the beginning of the sort keys of one hour; they sort by time."""
    return f"#H{number:08}"


def _day(tenant: str, number: int) -> str:
    """Return the beginning of the sort keys of a tenant's rows of one day."""
    return f"{tenant}#D{number:08}"


def _sort_key(usage_key: UsageKey, resolution: Resolution, number: int) -> str:
    """Return the sort key of a row. Key, model and provider may be long: it has their digest."""
    rest = "\0".join(usage_key[1:])
    digest = hashlib.sha256(rest.encode()).hexdigest()[:16]
    tenant = usage_key.tenant
    begin = f"{_hour(number)}#{tenant}" if resolution is HOUR else _day(tenant, number)
    return f"{begin}#{digest}"


def _part_name(part: int) -> str:
    return f"p{part:02}"


def _row(item: Item) -> UsageRow:
    values = from_item(item)
    names = {name: int(name[1:]) for name in values if name[0] == "p" and name[1:].isdigit()}
    usage_key = UsageKey(*(values[name] for name in UsageKey._fields))
    parts = {part: Usage.from_row(values[name]) for name, part in names.items()}
    return UsageRow(usage_key, values["number"], parts)


def _readable(item: Item, slice_number: int) -> dict[str, Any]:
    """
    Return the readable fields of an ended task's row: a provider may have written anything.

    The end is moved into the slice that the row is indexed by.
    """
    values = {}
    for name in ENDED_FIELDS:
        with suppress(KeyError, TypeError, ValueError):
            values[name] = from_value(item[name])
    first = slice_number * SLICE_MS
    ended_ms = values.get("ended_ms", first)
    if type(ended_ms) is not int:
        ended_ms = first
    return {**values, "ended_ms": min(max(first, ended_ms), first + SLICE_MS - 1)}
