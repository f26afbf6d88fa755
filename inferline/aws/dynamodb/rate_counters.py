"""Rate-limit counters on DynamoDB: a partition of the registry table, a row per key and tenant."""

from __future__ import annotations

from typing import Any, Final

from inferline.accounts.rate_counters import ConditionalUpdate, LimitOwner, RawRow
from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import ConditionFailed
from inferline.aws.api.items import from_item
from inferline.aws.dynamodb.expressions import CopyOf
from inferline.aws.dynamodb.table import Table, key_of

RATE_COUNTERS: Final = "METER"
#: How long a row is kept after its last write, seconds: longer than any of its windows.
SECONDS_KEPT: Final = 3 * 24 * 3600
#: The longest that a write may take, seconds, retries included: a request waits for it.
WRITE_SECONDS_MAX: Final = 5.0


class DynamoRateCounters:
    """`CounterStore` on the registry table. The client's clock, which is AWS's, dates windows."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._table = Table(client, table)

    def now_ms(self) -> int:
        return self._table.now_ms()

    async def change(
        self, owner: LimitOwner, change: ConditionalUpdate, write_id: str
    ) -> tuple[bool, RawRow]:
        copies = {name: CopyOf(other, plus) for name, (other, plus) in change.copies.items()}
        ttl = self.now_ms() // 1000 + SECONDS_KEPT
        condition, values = _condition(change)
        try:
            item = await self._table.update(
                key_of(RATE_COUNTERS, f"{owner.kind}#{owner.id}"),
                set={"mark": write_id, "ttl": ttl, **change.sets, **copies},
                add=change.adds,
                condition=condition,
                values=values,
                returns="ALL_NEW",
                show_refused=True,
                timeout=WRITE_SECONDS_MAX,
            )
        except ConditionFailed as refused:
            row = from_item(refused.item)
            return row.get("mark") == write_id, row
        return True, from_item(item)


def _condition(change: ConditionalUpdate) -> tuple[str, dict[str, Any]]:
    """Build the condition of a change, and its values: a write is not repeated by its own id."""
    terms, values = ["(attribute_not_exists(#mark) OR #mark <> :mark)"], dict[str, Any]()
    for name, number in change.equal.items():
        if number is None:
            terms.append(f"attribute_not_exists(#{name})")
        else:
            terms.append(f"#{name} = :equal_{name}")
            values[f"equal_{name}"] = number
    for name, number in change.least.items():
        terms.append(f"#{name} >= :least_{name}")
        values[f"least_{name}"] = number
    for name, number in change.most.items():
        terms.append(f"#{name} <= :most_{name}")
        values[f"most_{name}"] = number
    return " AND ".join(terms), values
