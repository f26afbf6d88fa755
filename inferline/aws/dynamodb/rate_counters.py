"""Meters on DynamoDB: one partition of the registry table, a row for each key and each tenant."""

from __future__ import annotations

from typing import Any, Final

from inferline.accounts.rate_counters import ConditionalUpdate, Owner, RawRow
from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import ConditionFailed, translated
from inferline.aws.api.items import from_item, to_item

METERS: Final = "METER"
#: How long a row stays after its last write, seconds: longer than any of its windows.
SECONDS_KEPT: Final = 3 * 24 * 3600
#: The longest that a write may take, seconds, repeats included: a request waits for it.
WRITE_SECONDS_MAX: Final = 5.0


class DynamoMeters:
    """`MeterStore` on the registry table. The client's clock, which is AWS's, tells the windows."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._client = client
        self._table = table

    def now_ms(self) -> int:
        """Milliseconds since 1970 by AWS's clock."""
        return self._client.now_ms()

    async def change(
        self, owner: Owner, change: ConditionalUpdate, mark: str
    ) -> tuple[bool, RawRow]:
        """Write a row if all conditions hold; see `MeterStore`."""
        request = {
            "TableName": self._table,
            "Key": to_item({"pk": METERS, "sk": f"{owner.kind}#{owner.id}"}),
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            **_expressions(change, mark, self.now_ms() // 1000 + SECONDS_KEPT),
        }
        try:
            with translated():
                answer = await self._client.call(
                    "dynamodb", "UpdateItem", request, timeout=WRITE_SECONDS_MAX
                )
        except ConditionFailed as refused:
            row = from_item(refused.item)
            return row.get("mark") == mark, row
        return True, from_item(answer["Attributes"])


def _expressions(change: ConditionalUpdate, mark: str, ttl: int) -> dict[str, Any]:
    """A change in DynamoDB's language. All names go in by others: some are reserved there."""
    values: dict[str, int | str] = {":mark": mark, ":ttl": ttl}
    names = {"#mark": "mark", "#ttl": "ttl"}

    def value(number: int) -> str:
        values[f":v{len(values)}"] = number
        return f":v{len(values) - 1}"

    def name(attribute: str) -> str:
        names[f"#{attribute}"] = attribute
        return f"#{attribute}"

    conditions = ["(attribute_not_exists(#mark) OR #mark <> :mark)"]
    for attribute, number in change.equal.items():
        there = name(attribute)
        conditions.append(
            f"attribute_not_exists({there})" if number is None else f"{there} = {value(number)}"
        )
    conditions += [f"{name(n)} >= {value(number)}" for n, number in change.least.items()]
    conditions += [f"{name(n)} <= {value(number)}" for n, number in change.most.items()]
    sets = ["#mark = :mark", "#ttl = :ttl"]
    sets += [f"{name(n)} = {value(number)}" for n, number in change.sets.items()]
    sets += [
        f"{name(n)} = {name(other)} + {value(more)}" for n, (other, more) in change.copies.items()
    ]
    adds = [f"{name(n)} {value(number)}" for n, number in change.adds.items()]
    return {
        "ConditionExpression": " AND ".join(conditions),
        "UpdateExpression": f"SET {', '.join(sets)}" + (f" ADD {', '.join(adds)}" if adds else ""),
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": to_item(values),
    }
