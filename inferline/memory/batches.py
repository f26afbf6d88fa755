"""Batches in memory."""

from __future__ import annotations

from dataclasses import replace

from inferline.batches.batch import Batch
from inferline.clock import Clock, SystemClock
from inferline.memory.dates import Dates


class MemoryBatches:
    """A `BatchStore` in memory."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._dates = Dates(clock or SystemClock())
        self._batches: dict[tuple[str, str], Batch] = {}

    def now_ms(self) -> int:
        return self._dates.now_ms()

    async def create_batch(self, batch: Batch) -> None:
        self._batches[batch.tenant, batch.id] = batch

    async def save_batch(self, batch: Batch) -> Batch | None:
        row = self._batches.get((batch.tenant, batch.id))
        if row is None or row.version != batch.version:
            return None
        written = replace(batch, version=batch.version + 1)
        self._batches[batch.tenant, batch.id] = written
        return written

    async def batch(self, tenant: str, batch_id: str) -> Batch | None:
        return self._batches.get((tenant, batch_id))

    async def batches(self, tenant: str, *, after: str = "", limit: int) -> list[Batch]:
        batches = [
            batch
            for batch in self._batches.values()
            if batch.tenant == tenant and (not after or batch.id < after)
        ]
        return sorted(batches, key=lambda batch: batch.id, reverse=True)[:limit]

    async def live_batches(self) -> list[tuple[str, str]]:
        return [key for key, batch in self._batches.items() if not batch.is_terminal]
