"""The usage ledger in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import asdict, replace

from inferline.memory.tasks import MemoryStore
from inferline.usage.usage import (
    SLICE_MS,
    Parts,
    Resolution,
    TaskUsage,
    Usage,
    UsageKey,
    UsageRow,
    Watermarks,
)


class MemoryUsage:
    """A `UsageStore` in memory, of the tasks of a store in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._kept: dict[tuple[Resolution, int, UsageKey], dict[int, Usage]] = {}
        self._progress = Watermarks()

    def now_ms(self) -> int:
        return self._store.now_ms()

    async def ended(self, slice_number: int) -> AsyncIterator[TaskUsage]:
        first = slice_number * SLICE_MS
        for task in self._store.ended(first, first + SLICE_MS):
            if usage := TaskUsage.from_row(task.ref.id, asdict(task)):
                yield usage

    async def parts(
        self, resolution: Resolution, number: int, usage_keys: Collection[UsageKey]
    ) -> dict[UsageKey, Parts]:
        kept = {
            usage_key: self._kept.get((resolution, number, usage_key)) for usage_key in usage_keys
        }
        return {usage_key: _copied(parts) for usage_key, parts in kept.items() if parts}

    async def put(
        self, resolution: Resolution, number: int, part: int, sums: Mapping[UsageKey, Usage]
    ) -> None:
        for usage_key, usage in sums.items():
            parts = self._kept.setdefault((resolution, number, usage_key), {})
            if part not in parts or parts[part].requests <= usage.requests:
                parts[part] = replace(usage)

    async def watermarks(self) -> Watermarks:
        return self._progress

    async def advance(self, watermarks: Watermarks) -> None:
        seen = self._progress
        self._progress = Watermarks(
            max(seen.first_pass, watermarks.first_pass), max(seen.final_pass, watermarks.final_pass)
        )

    async def rows(
        self, tenant: str | None, resolution: Resolution, first: int, end: int
    ) -> AsyncIterator[UsageRow]:
        for (kept, number, usage_key), parts in list(self._kept.items()):
            is_wanted = kept == resolution and first <= number < end
            if is_wanted and tenant in (None, usage_key.tenant):
                yield UsageRow(usage_key, number, _copied(parts))


def _copied(parts: Mapping[int, Usage]) -> dict[int, Usage]:
    return {part: replace(usage) for part, usage in parts.items()}
