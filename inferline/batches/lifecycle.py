"""
The steps of a batch's life. Each may be broken off anywhere, and is then begun again by whoever
looks at the batch next: a gateway, or the sweep.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from tempfile import TemporaryFile
from typing import Final

from inferline.batches.batch import Batch
from inferline.batches.finalizing import finalize
from inferline.batches.parts import BatchParts
from inferline.batches.progress import is_due, read_progress
from inferline.batches.shards import (
    ShardInput,
    end_all,
    read_inputs,
    read_rows,
    submit,
    write_inputs,
)
from inferline.batches.spool import LineSpool
from inferline.batches.validation import BatchRefused, check_backlog, validate
from inferline.batches.work import TRIES_MAX, Work, WorkLost
from inferline.errors import InvalidRequest, Unavailable
from inferline.fleet.registry import Model
from inferline.names import DEDICATED_SLUG_PREFIX, base_name, dedicated_name

log = logging.getLogger(__name__)

#: How long after its window a batch is ended, seconds: its providers end their attempts first.
GRACE_SECONDS: Final = 5.0


async def advance(parts: BatchParts, tenant: str, batch_id: str) -> Batch | None:
    """
    Do what a batch needs now, if no other process does; return the batch as it is then.

    Idempotent. Raises Unavailable; then the next call goes on.
    """
    batch = await parts.batches.batch(tenant, batch_id)
    if batch is None:
        return None
    if batch.is_terminal:  # Who ended it may have died before it was taken from the live ones.
        return await parts.batches.save_batch(batch) or batch
    is_late = parts.batches.now_ms() > batch.expires_ms + GRACE_SECONDS * 1000
    if batch.status == "in_progress" and not is_late:
        if not is_due(batch, parts.batches.now_ms()):
            return batch
        batch, have_ended = await read_progress(parts, batch)
        if not have_ended:
            return batch
    work = await Work.begin(parts, batch)
    if work is None:
        return batch
    try:
        await _step(work, is_late=is_late)
    except WorkLost:
        log.info("a batch was changed by another process", extra={"batch": batch_id})
    finally:
        await work.end()
    return work.batch


async def _step(work: Work, *, is_late: bool) -> None:
    """Take a batch to its next status. Raises WorkLost and Unavailable."""
    batch, store = work.batch, work.parts.store
    if batch.status == "validating" and not is_late:
        await _start(work)
        return
    if batch.status == "cancelling" or is_late:
        rows = await read_rows(work.parts, batch, consistent=True)
        await end_all(work, rows, store.cancel if batch.status == "cancelling" else store.expire)
    await finalize(work)


async def _start(work: Work) -> None:
    """Validate a batch and submit its shards, or fail it."""
    try:
        model, inputs = await _resumed(work) if work.batch.shards else await _validated(work)
    except BatchRefused as refused:
        await work.save(status="failed", failed_ms=work.now_ms(), errors=refused.errors)
        return
    await submit(work, model, inputs)
    await work.save(status="in_progress", in_progress_ms=work.now_ms())


async def _validated(work: Work) -> tuple[Model, list[ShardInput]]:
    with TemporaryFile() as file:
        spool = LineSpool(file)
        model = await validate(work, spool)
        await check_backlog(work, len(spool))
        inputs = await write_inputs(work, spool, model.slug)
    lines = sum(each.lines for each in inputs)
    name = base_name(model.id)
    await work.save(model=name, slug=model.slug, total=lines, shards=len(inputs))
    return model, inputs


async def _resumed(work: Work) -> tuple[Model, list[ShardInput]]:
    """Return what `_validated` has saved before its process died."""
    batch = work.batch
    is_dedicated = batch.slug.startswith(DEDICATED_SLUG_PREFIX)
    name = dedicated_name(batch.model, batch.tenant) if is_dedicated else batch.model
    model = await work.parts.registry.model(name)
    if model is None:
        raise Unavailable("The model of the batch is gone. It goes on when a provider brings it.")
    return model, await read_inputs(work)


async def cancel(parts: BatchParts, batch: Batch) -> Batch:
    """
    Begin to cancel a batch; `advance` goes on. Idempotent.

    Raises InvalidRequest if it has ended otherwise, and Unavailable.
    """
    for _ in range(TRIES_MAX):
        if batch.status in ("cancelling", "cancelled"):
            return batch
        if batch.is_terminal:
            raise InvalidRequest(f"Cannot cancel a batch with status '{batch.status}'.")
        now_ms = parts.batches.now_ms()
        # The lease stays: who works on the batch learns of it before anybody else begins.
        changed = replace(batch, status="cancelling", cancelling_ms=now_ms)
        saved = await parts.batches.save_batch(changed)
        if saved is not None:
            return saved
        batch = await parts.batches.batch(batch.tenant, batch.id) or batch
    raise Unavailable
