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
    wind_up,
    write_inputs,
)
from inferline.batches.spool import LineSpool
from inferline.batches.validation import BatchRefused, check_backlog, validate
from inferline.batches.work import TRIES_MAX, Work, WorkLost
from inferline.errors import InferLineError, InvalidRequest, Unavailable
from inferline.fleet.registry import Model
from inferline.names import DEDICATED_SLUG_PREFIX, base_name, dedicated_name

log = logging.getLogger(__name__)

#: How long after its window a batch is ended, seconds: its providers end their attempts first.
GRACE_SECONDS: Final = 5.0


async def advance(
    parts: BatchParts, tenant: str, batch_id: str, *, have_ended: bool = False
) -> None:
    """
    Do what a batch needs now, if no other process does.

    ``have_ended``: all of its shards were just seen to have ended. Idempotent. Raises Unavailable;
    then the next call goes on.
    """
    batch = await parts.batches.batch(tenant, batch_id)
    if batch is None or not (batch := await _at_step(parts, batch, have_ended=have_ended)):
        return
    work = await Work.begin(parts, batch)
    if work is None:
        return
    try:
        await _step(work)
        return
    except WorkLost:
        log.info("a batch was changed meanwhile", extra={"batch": batch_id})
    finally:
        await work.end()
    await advance(parts, tenant, batch_id)  # A cancellation, for one, wants work.


async def _at_step(parts: BatchParts, batch: Batch, *, have_ended: bool) -> Batch | None:
    """Return a batch that is to be taken to its next status; None if it is not, and is counted."""
    if batch.is_terminal:  # Who ended it may have died before it was taken from the live ones.
        await parts.batches.save_batch(batch)
        return None
    if have_ended or batch.status != "in_progress" or _is_late(parts, batch):
        return batch
    if not is_due(batch, parts.batches.now_ms()):
        return None
    batch, have_ended = await read_progress(parts, batch)
    return batch if have_ended else None


def _is_late(parts: BatchParts, batch: Batch) -> bool:
    return parts.batches.now_ms() > batch.expires_ms + GRACE_SECONDS * 1000


async def advance_all(parts: BatchParts) -> None:
    """Do what all batches need that have not ended. Raises Unavailable if none can be named."""
    for tenant, batch_id in await parts.batches.live_batches():
        await try_to_advance(parts, tenant, batch_id)


async def try_to_advance(
    parts: BatchParts, tenant: str, batch_id: str, *, have_ended: bool = False
) -> None:
    """Do what a batch needs now; a failure is noted, since the next call goes on."""
    try:
        await advance(parts, tenant, batch_id, have_ended=have_ended)
    except InferLineError as error:
        log.warning("could not go on with a batch: %s", error.code, extra={"batch": batch_id})
    except Exception as error:  # No batch may keep the others from going on.
        name = type(error).__name__
        log.exception("could not go on with a batch: %s", name, extra={"batch": batch_id})


async def _step(work: Work) -> None:
    """Take a batch to its next status. Raises WorkLost and Unavailable."""
    batch, store = work.batch, work.parts.store
    is_late = _is_late(work.parts, batch)
    if batch.status == "validating" and not is_late:
        await _start(work)
        return
    if batch.status == "cancelling" or is_late:
        rows = await read_rows(work.parts, batch, consistent=True)
        if batch.status == "cancelling" and await wind_up(work, rows):
            return  # The next call goes on.
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
