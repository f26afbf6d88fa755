"""A batch's progress: the sums over the rows of its shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from inferline.batches.batch import Batch
from inferline.batches.charging import charge
from inferline.batches.parts import BatchParts
from inferline.batches.shards import read_rows
from inferline.tasks.task import Task
from inferline.telemetry import genai

#: The token counts that are added up, by the names that the APIs have for them.
USAGE_NAMES: Final = (
    *("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens"),
    *("cached_tokens", "reasoning_tokens"),
)
#: How old a batch's counts may be: so long, and a part of its age.
AGE_MS_MIN: Final = 1_000
AGE_SHARE: Final = 0.01


def is_due(batch: Batch, now_ms: int) -> bool:
    """Return whether a batch's counts are to be read again: not while a process works on it."""
    if batch.status != "in_progress" or batch.worker_until_ms > now_ms:
        return False
    age_max = max(AGE_MS_MIN, AGE_SHARE * (now_ms - batch.created_ms))
    return now_ms - batch.counted_ms >= age_max


def counted(batch: Batch, rows: Sequence[Task | None], now_ms: int) -> Batch:
    """Return the batch with the counts that the shards' rows have."""
    completed = failed = 0
    usage: Counter[str] = Counter()
    for row in rows:
        if row is not None and row.shard is not None:
            completed += row.shard.completed
            failed += row.shard.failed
            usage.update(_valid(row.shard.usage))
    completed = min(completed, batch.total)
    failed = min(failed, batch.total - completed)
    return replace(batch, completed=completed, failed=failed, usage=dict(usage), counted_ms=now_ms)


def _valid(usage: Mapping[str, int]) -> dict[str, int]:
    """Return the token counts that can be: a provider may have written anything."""
    return {name: min(usage[name], genai.TOKENS_MAX) for name in USAGE_NAMES if name in usage}


def have_ended(rows: Sequence[Task | None]) -> bool:
    """Return whether no shard will run any more."""
    return all(row is not None and row.state.terminal for row in rows)


async def read_progress(parts: BatchParts, batch: Batch) -> tuple[Batch, bool]:
    """
    Read the shards' rows, save the counts, and return the batch and whether all shards have ended.

    Anyone may: it needs no lease, since whoever meets a newer row leaves it alone.
    """
    now_ms = parts.batches.now_ms()
    rows = await read_rows(parts, batch)
    saved = await parts.batches.save_batch(counted(batch, rows, now_ms))
    if saved is None:
        saved = await parts.batches.batch(batch.tenant, batch.id) or batch
        return saved, False
    await charge(parts, batch, saved)
    return saved, have_ended(rows)
