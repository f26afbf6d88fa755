"""Minute metrics on DynamoDB: a partition of the registry table, a row per minute and model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.dynamodb.table import Table, key_of
from inferline.names import slug
from inferline.usage.minutes import MINUTE_MS, Minute, MinuteMetrics

MINUTES: Final = "MINUTE"
#: How long a row is kept, seconds.
SECONDS_KEPT: Final = 24 * 3600
#: The longest that a write may take, seconds: on AWS an answer's end waits for it.
WRITE_SECONDS_MAX: Final = 2.0
#: How many counts one write adds to; DynamoDB's own limits are an expression of 4 KB and 300
#: operators.
NAMES_MAX: Final = 100
#: The attributes of a row that are no counts.
_NO_COUNTS: Final = frozenset({"pk", "sk", "ttl", "model"})


class DynamoMinutes:
    """
    `MinuteStore` on the registry table.

    A row's sort key begins with its minute, so the last hour is one query, and a minute's writes
    are one addition of 1 KB for each gateway and model.
    """

    def __init__(self, client: AwsClient, table: str) -> None:
        self._table = Table(client, table)

    async def add(self, row: Minute) -> None:
        counts = list(row.metrics.counts.items())
        for start in range(0, len(counts), NAMES_MAX):
            await self._add(row, dict(counts[start : start + NAMES_MAX]))

    async def _add(self, row: Minute, counts: Mapping[str, int]) -> None:
        ttl = row.number * MINUTE_MS // 1000 + SECONDS_KEPT
        await self._table.update(
            key_of(MINUTES, f"{_sort_key(row.number)}#{slug(row.model)}"),
            set={"ttl": ttl, "model": row.model},
            add=counts,
            timeout=WRITE_SECONDS_MAX,
        )

    async def since(self, number: int) -> list[Minute]:
        return [_minute(row) for row in await self._table.rows(MINUTES, _sort_key(number))]


def _sort_key(number: int) -> str:
    """Return the beginning of a minute's sort keys, which sort by time."""
    return f"{number:010}"


def _minute(row: Mapping[str, Any]) -> Minute:
    counts = Counter({name: value for name, value in row.items() if name not in _NO_COUNTS})
    return Minute(int(row["sk"].partition("#")[0]), row["model"], MinuteMetrics(counts))
