"""The minutes on DynamoDB: one partition of the registry table, a row for each minute and model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import translated
from inferline.aws.api.items import to_item
from inferline.aws.dynamodb.registry import rows
from inferline.names import slug
from inferline.usage.minutes import MINUTE_MS, Minute, MinuteMetrics

MINUTES: Final = "MINUTE"
#: How long a row stays, seconds.
SECONDS_KEPT: Final = 24 * 3600
#: The longest that a write may take, seconds: on AWS an answer's end waits for it.
WRITE_SECONDS_MAX: Final = 2.0
#: How many figures one write adds to; DynamoDB's own limits are an expression of 4 KB and 300
#: operators.
NAMES_MAX: Final = 100
#: What of a row is no figure.
_NOT_FIGURES: Final = frozenset({"pk", "sk", "ttl", "model"})


class DynamoMinutes:
    """
    `MinuteStore` on the registry table.

    A row's name begins with its minute, so the last hour is one query, and a minute's writes are
    one addition of 1 KB for each gateway and model.
    """

    def __init__(self, client: AwsClient, table: str) -> None:
        self._client = client
        self._table = table

    async def add(self, row: Minute) -> None:
        """Add to a minute's figures; see `MinuteStore`."""
        counts = list(row.figures.counts.items())
        for start in range(0, len(counts), NAMES_MAX):
            await self._add(row, counts[start : start + NAMES_MAX])

    async def _add(self, row: Minute, counts: Sequence[tuple[str, int]]) -> None:
        added = ", ".join(f"#{i} :{i}" for i in range(len(counts)))
        names = {f"#{i}": name for i, (name, _) in enumerate(counts)}
        values: dict[str, Any] = {f":{i}": count for i, (_, count) in enumerate(counts)}
        values |= {":ttl": row.number * MINUTE_MS // 1000 + SECONDS_KEPT, ":model": row.model}
        request = {
            "TableName": self._table,
            "Key": to_item({"pk": MINUTES, "sk": f"{_name(row.number)}#{slug(row.model)}"}),
            "UpdateExpression": f"SET #ttl = :ttl, #model = :model ADD {added}",
            "ExpressionAttributeNames": {"#ttl": "ttl", "#model": "model", **names},
            "ExpressionAttributeValues": to_item(values),
        }
        with translated():
            await self._client.call("dynamodb", "UpdateItem", request, timeout=WRITE_SECONDS_MAX)

    async def since(self, number: int) -> list[Minute]:
        """All minutes from ``number`` on; see `MinuteStore`."""
        first = _name(number)
        found = await rows(self._client, self._table, MINUTES, first=first, consistent=False)
        return [_minute(row) for row in found]


def _name(number: int) -> str:
    """The minute as it sorts."""
    return f"{number:010}"


def _minute(row: dict[str, Any]) -> Minute:
    counts = Counter({name: value for name, value in row.items() if name not in _NOT_FIGURES})
    return Minute(int(row["sk"].partition("#")[0]), row["model"], MinuteMetrics(counts))
