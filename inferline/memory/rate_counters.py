"""Rate-limit counters in memory."""

from __future__ import annotations

from inferline.accounts.rate_counters import ConditionalUpdate, LimitOwner, RawRow
from inferline.clock import Clock, SystemClock
from inferline.memory.dates import Dates


class MemoryRateCounters:
    """A `CounterStore` in memory."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._dates = Dates(clock or SystemClock())
        self._rows: dict[LimitOwner, RawRow] = {}

    def now_ms(self) -> int:
        return self._dates.now_ms()

    async def change(
        self, owner: LimitOwner, change: ConditionalUpdate, write_id: str
    ) -> tuple[bool, RawRow]:
        row = self._rows.get(owner, {})
        if row.get("mark") == write_id:
            return True, row
        if not _conditions_hold(row, change):
            return False, row
        copied = {name: row[other] + more for name, (other, more) in change.copies.items()}
        added = {name: row.get(name, 0) + more for name, more in change.adds.items()}
        row = self._rows[owner] = {**row, **change.sets, **copied, **added, "mark": write_id}
        return True, row


def _conditions_hold(row: RawRow, change: ConditionalUpdate) -> bool:
    return (
        all(row.get(name) == number for name, number in change.equal.items())
        and all(name in row and row[name] >= number for name, number in change.least.items())
        and all(name in row and row[name] <= number for name, number in change.most.items())
    )
