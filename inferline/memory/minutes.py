"""Minute metrics in memory."""

from __future__ import annotations

from inferline.usage.minutes import Minute, MinuteMetrics


class MemoryMinutes:
    """A `MinuteStore` in memory."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, str], MinuteMetrics] = {}

    async def add(self, row: Minute) -> None:
        self._rows.setdefault((row.number, row.model), MinuteMetrics()).add(row.figures)

    async def since(self, number: int) -> list[Minute]:
        kept = sorted((key, figures) for key, figures in self._rows.items() if key[0] >= number)
        return [Minute(*key, MinuteMetrics(figures.counts.copy())) for key, figures in kept]
