"""A whole batch, from its creation to its files, on each of the stores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inferline.batches.lifecycle import cancel
from tests.support.batches import (
    ScriptedProvider,
    advanced,
    answered,
    created,
    jsonl,
    know,
    line,
    lines_of,
    parts_on,
)


async def test_a_batch_is_run_and_finalized(seams: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("inferline.batches.progress.AGE_MS_MIN", 0)
    parts, provider = parts_on(seams), ScriptedProvider(seams, await know(seams), answered)
    batch = await created(parts, jsonl([line(n) for n in range(150)]))

    batch = await advanced(parts, batch)
    assert (batch.status, batch.total, batch.shards) == ("in_progress", 150, 2)
    await provider.run()
    batch = await advanced(parts, batch)

    assert (batch.status, batch.completed, batch.worker_until_ms) == ("completed", 150, 0)
    ids = [each["custom_id"] for each in await lines_of(seams, batch.tenant, batch.output_file_id)]
    assert sorted(ids) == sorted(f"line-{n}" for n in range(150))
    assert await seams.batches.live_batches() == []


async def test_a_batch_is_cancelled(seams: Any) -> None:
    parts, provider = parts_on(seams), ScriptedProvider(seams, await know(seams), answered)
    batch = await advanced(parts, await created(parts, jsonl([line(n) for n in range(150)])))
    await provider.run(1)

    await cancel(parts, batch)
    batch = await advanced(parts, batch)

    assert batch.status == "cancelled"
    assert (batch.completed + len(await lines_of(seams, batch.tenant, batch.error_file_id))) == 150
    assert batch.failed == 0


async def test_a_batch_is_submitted_again_after_a_restart(seams: Any) -> None:
    parts, provider = parts_on(seams), ScriptedProvider(seams, await know(seams), answered)
    batch = await advanced(parts, await created(parts, jsonl([line(n) for n in range(150)])))
    # As if the process had died before it wrote the new status.
    row = await seams.batches.batch(batch.tenant, batch.id)
    assert await seams.batches.save_batch(replace(row, status="validating"))

    batch = await advanced(parts, batch)

    assert batch.status == "in_progress"
    assert await provider.run() == 2
    assert len(set(provider.ran)) == len(provider.ran) == 150
