"""Minute metrics in memory."""

from __future__ import annotations

from inferline.usage.minutes import Minute, MinuteMetrics


class MemoryMinutes:
    """A `MinuteStore` in memory."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, str], MinuteMetrics] = {}

    async def add(self, row: Minute) -> None:
        self._rows.setdefault((row.number, row.model), MinuteMetrics()).add(row.metrics)

    async def since(self, number: int) -> list[Minute]:
        kept = sorted((key, metrics) for key, metrics in self._rows.items() if key[0] >= number)
        return [Minute(*key, MinuteMetrics(metrics.counts.copy())) for key, metrics in kept]
