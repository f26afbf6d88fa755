"""A batch's shards: their inputs and their tasks, from the first write to the end."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple

from inferline.batches.batch import Batch
from inferline.batches.parts import BatchParts
from inferline.batches.spool import LineSpool
from inferline.batches.work import Work
from inferline.errors import Unavailable
from inferline.fleet.registry import Model
from inferline.names import model_hash
from inferline.tasks.queue import Message
from inferline.tasks.shard import Shard, input_key, shard_id
from inferline.tasks.store import Wanted
from inferline.tasks.task import Task, TaskRef

#: Inputs written, or read, at the same time: each may have 4 MiB.
INPUTS_MAX: Final = 4
#: Other calls at the same time.
CALLS_MAX: Final = 25
#: Tasks that are submitted between two looks at the lease.
TASKS_MAX: Final = 100
#: How long the rows of shards are kept after the batch's window, seconds: it is finalized by then.
SECONDS_KEPT: Final = 7 * 24 * 3600
#: How long providers have to commit what is done once their batch is cancelled, seconds: they
#: learn of it with their next commit.
WIND_UP_SECONDS: Final = 25.0
#: Attempts at a shard. A line that ends its provider costs three, and a shard may have several.
ATTEMPTS_MAX: Final = 100


class ShardInput(NamedTuple):
    """The digest of a shard's input, and the number of its lines."""

    sha256: str
    lines: int


def shard_ref(batch: Batch, number: int) -> TaskRef:
    """Return the reference of a shard's task."""
    return TaskRef(batch.slug, shard_id(batch.id, number, model_hash(batch.slug)))


async def write_inputs(work: Work, spool: LineSpool, slug: str) -> list[ShardInput]:
    """Store the input of each shard. Raises WorkLost and Unavailable."""
    sort = work.parts.settings.batch_sort == "prefix"

    async def write(numbered: tuple[int, list[int]]) -> ShardInput:
        number, lines = numbered
        body = spool.read(lines)
        await work.parts.objects.put(input_key(slug, work.batch.id, number), body)
        return ShardInput(hashlib.sha256(body).hexdigest(), len(lines))

    return await work.for_each(write, enumerate(spool.shards(sort=sort)), INPUTS_MAX)


async def read_inputs(work: Work) -> list[ShardInput]:
    """Return what `write_inputs` has stored, after a restart."""

    async def read(number: int) -> ShardInput:
        key = input_key(work.batch.slug, work.batch.id, number)
        body = await work.parts.objects.get(key)
        return ShardInput(hashlib.sha256(body).hexdigest(), body.count(b"\n"))

    return await work.for_each(read, range(work.batch.shards), INPUTS_MAX)


async def submit(work: Work, model: Model, inputs: Sequence[ShardInput]) -> None:
    """
    Write the tasks of all shards and send their messages; those that exist are left as they are.

    After a restart a task gets another message, since nobody knows if it has one. Raises WorkLost
    and Unavailable.
    """
    queue = model.queues.get("batch")
    if queue is None:  # An earlier release knows the model; its next provider brings the queue.
        raise Unavailable("The model has no queue for batches yet.")
    batch = work.batch
    tasks = [_task(work, number, each) for number, each in enumerate(inputs)]
    for start in range(0, len(tasks), TASKS_MAX):
        await work.keep()
        group = tasks[start : start + TASKS_MAX]
        await work.parts.store.submit_all(group)
        keys = (input_key(batch.slug, batch.id, task.shard.number) for task in group if task.shard)
        messages = [
            Message(ref=task.ref, body_key=key) for task, key in zip(group, keys, strict=True)
        ]
        await work.parts.queue.send_all(queue, messages, batch.tenant)


def _task(work: Work, number: int, shard_input: ShardInput) -> Task:
    batch = work.batch
    return Task(
        ref=shard_ref(batch, number),
        model=batch.model,
        tier="batch",
        tenant=batch.tenant,
        key_id=batch.key_id,
        path=batch.endpoint,
        body_sha256=shard_input.sha256,
        created_ms=work.now_ms(),
        deadline_ms=batch.expires_ms,
        attempt_limit=ATTEMPTS_MAX,
        ttl=batch.expires_ms // 1000 + SECONDS_KEPT,
        shard=Shard(batch=batch.id, number=number, lines=shard_input.lines),
    )


async def read_rows(
    parts: BatchParts, batch: Batch, *, consistent: bool = False
) -> list[Task | None]:
    """Return the row of each shard, None where there is none that can be one."""
    wanted = [Wanted(shard_ref(batch, number)) for number in range(batch.shards)]
    reads = await parts.store.read(wanted, consistent=consistent) if wanted else []
    rows = [read.task for read in reads]
    return [row if _is_of(row, batch, number) else None for number, row in enumerate(rows)]


def _is_of(row: Task | None, batch: Batch, number: int) -> bool:
    """Return whether a row is the shard's: providers write rows, and may write anything."""
    shard = row.shard if row else None
    return shard is not None and (shard.batch, shard.number) == (batch.id, number)


async def wind_up(work: Work, rows: Iterable[Task | None]) -> bool:
    """
    Cancel the tasks that wait, and have the others' owners write what is done and end them.

    Returns whether some still run and have time for that. Raises WorkLost and Unavailable.
    """
    store, now_ms = work.parts.store, work.now_ms()
    until_ms = work.batch.cancelling_ms + round(WIND_UP_SECONDS * 1000)
    live = [row for row in rows if row is not None and not row.state.terminal]
    waiting = [row.ref for row in live if row.waits(now_ms)]
    running = [row for row in live if not row.waits(now_ms)]
    await work.for_each(store.cancel, waiting, CALLS_MAX)
    if not running or now_ms >= until_ms:
        return False
    late = [row.ref for row in running if row.deadline_ms > until_ms]
    await work.for_each(lambda ref: store.bring_deadline_forward(ref, until_ms), late, CALLS_MAX)
    return True


async def end_all(
    work: Work, rows: Iterable[Task | None], end: Callable[[TaskRef], Awaitable[bool]]
) -> None:
    """End all tasks that live, by `TaskStore.cancel` or `TaskStore.expire`."""
    live = [row.ref for row in rows if row is not None and not row.state.terminal]
    await work.for_each(end, live, CALLS_MAX)


async def delete_inputs(work: Work) -> None:
    """Delete the inputs of all shards."""
    batch = work.batch
    keys = [input_key(batch.slug, batch.id, number) for number in range(batch.shards)]
    for start in range(0, len(keys), CALLS_MAX):
        await work.parts.objects.delete(keys[start : start + CALLS_MAX])
