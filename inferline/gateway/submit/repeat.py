"""
Repeats: a request that was sent before finds the task that is there instead of adding one.

An SDK sends a request again when it got no answer. Mostly the earlier task has ended with the
connection; but if the gateway died, it still runs, and nobody reads it. And whoever sends an
Idempotency-Key wants one task for it, however often it is sent.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from inferline.errors import GatewayStopping, IdempotencyKeyReused, TaskCancelled, Unavailable
from inferline.gateway.submit.submission import Line
from inferline.tasks.store import Binding, Wanted
from inferline.tasks.task import LIVE, State, Task, TaskRef
from inferline.validation.forwarding import CONTENT_TYPE
from inferline.validation.multipart import rebound

log = logging.getLogger(__name__)

#: How many live tasks of a model are looked at for one that lost its reader.
LOOKED_AT_MAX: Final = 100
#: With more than so many that may have lost it, nobody waits to see which did: then one prompt is
#: asked many times at once, and each wants an answer of its own.
WAITED_FOR_MAX: Final = 4
#: Between two looks at them, seconds.
LOOK_SECONDS: Final = 0.25
#: How often a key is looked up that changes hands all the time, or a reader lease tried.
TRIES_MAX: Final = 5
#: Answers of a backend that may be better the next time.
_POOR: Final = frozenset({408, 409, 429})
_USEFUL: Final = LIVE | {State.DONE}


Asks = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A client's place at a task."""

    task: Task
    #: Whether somebody else was still reading it: then its leaving ends nothing.
    joined: bool = False


async def submit(
    line: Line,
    task: Task,
    body: bytes,
    *,
    is_retry: bool,
    key: str,
    is_gone: Asks,
    tenant_open: int = 0,
) -> Subscription:
    """
    Submit ``task``, unless it is a repeat of one that is there; then that.

    ``is_gone`` tells whether the client has left, ``tenant_open`` is as for `Line.submit`. Raises
    IdempotencyKeyReused, TaskCancelled when it left before there was anything to cancel, and what
    `Line.submit` raises.
    """
    if key:
        return await _once(line, task, body, key, tenant_open)
    if is_retry and (orphan := await _orphan(line, task, is_gone)) is not None:
        if orphan.state is State.QUEUED:
            await line.send_again(orphan, _body_of(orphan, task, body), tenant_open=tenant_open)
        return Subscription(orphan)
    await line.submit(task, body, tenant_open=tenant_open)
    return Subscription(task)


async def attach_reader(line: Line, task: Task) -> Subscription:
    """Read ``task`` from now on, instead of whoever does."""
    for _ in range(TRIES_MAX):
        if task.state.terminal:
            break
        reader = line.new_reader()
        if await line.store.renew_reader_lease(task, reader, line.settings.reader_seconds):
            is_read = task.reader_ms >= line.store.now_ms()
            return Subscription(replace(task, reader=reader), joined=is_read)
        task = await _row(line, task.ref) or task
    return Subscription(task, joined=True)


async def _once(line: Line, task: Task, body: bytes, key: str, tenant_open: int) -> Subscription:
    """The task that ``key`` stands for, which is ``task`` if it stands for none yet."""
    kept = task.created_ms // 1000 + line.settings.idempotency_seconds_kept
    task = replace(task, ttl=max(task.ttl, kept))
    # A tenant's keys are its own.
    digest = hashlib.sha256(f"{task.tenant}\0{key}".encode()).hexdigest()
    request = task.request
    bound = await line.store.binding(task.ref.slug, digest)
    for _ in range(TRIES_MAX):
        if bound is not None:
            earlier = await _bound_to(line, task, bound, request)
            if earlier is not None:
                return await _attached(line, earlier, _body_of(earlier, task, body), tenant_open)
        instead_of = bound.task_id if bound else ""
        bound = await line.submit_once(
            *(task, body, digest, request, instead_of), tenant_open=tenant_open
        )
        if bound is None:
            return Subscription(task)
    raise Unavailable


def _body_of(earlier: Task, task: Task, body: bytes) -> bytes:
    """The body of an earlier task as it was: that of its repeat, with the boundary that it had."""
    had, has = earlier.request_headers.get(CONTENT_TYPE), task.request_headers.get(CONTENT_TYPE)
    return rebound(body, has, had) if has and had and has != had else body


async def _bound_to(line: Line, task: Task, bound: Binding, request: str) -> Task | None:
    """The task that is bound, None when it came to nothing. Raises IdempotencyKeyReused."""
    if bound.request != request:
        raise IdempotencyKeyReused
    earlier = await _row(line, TaskRef(task.ref.slug, bound.task_id))
    if earlier is None or earlier.state not in _USEFUL:
        return None
    is_poor = earlier.status >= 500 or earlier.status in _POOR
    return None if is_poor else earlier


async def _attached(line: Line, task: Task, body: bytes, tenant_open: int) -> Subscription:
    seat = await attach_reader(line, task)
    if seat.task.state is State.QUEUED:
        # Who submitted it may have died before the message was sent. A second one does no harm.
        await line.send_again(seat.task, body, tenant_open=tenant_open)
    return seat


async def _orphan(line: Line, task: Task, is_gone: Asks) -> Task | None:
    """The task to adopt, if any. That none can be looked for is no reason to refuse a request."""
    try:
        return await _adopted(line, task, is_gone)
    except Unavailable:
        log.warning("a retry could not look for its task", extra={"task": task.ref.id})
        return None


async def _adopted(line: Line, task: Task, is_gone: Asks) -> Task | None:
    """
    The same request's task whose reader is gone, read by us from now on; None when there is none.

    Where a reader may be gone it waits until that is certain, or until it shows that it is not.
    """
    seen = await _same(line, task)
    while seen:
        now = line.store.now_ms()
        for one in (one for one in seen if one.reader_ms < now):
            if one.state is State.DONE:
                return one
            reader = line.new_reader()
            if await line.store.renew_reader_lease(one, reader, line.settings.reader_seconds):
                return replace(one, reader=reader)
        waited_for = [one for one in seen if one.reader_ms >= now]
        if not 0 < len(waited_for) <= WAITED_FOR_MAX:
            return None
        await line.clock.sleep(LOOK_SECONDS)
        if line.closing.is_set():
            raise GatewayStopping
        if await is_gone():  # Its next retry is the one to adopt.
            raise TaskCancelled
        seen = await _unchanged(line, waited_for)
    return None


async def _same(line: Line, task: Task) -> list[Task]:
    """The live tasks of the same request, but for those whose reader is here and well."""
    refs = [ref for ref, _ in await line.store.live(task.ref.slug, LOOKED_AT_MAX)]
    if not refs:
        return []
    rows = [found.task for found in await line.store.read([Wanted(ref) for ref in refs])]
    asked = task.tenant, task.request
    now = line.store.now_ms()
    return [
        row
        for row in rows
        if row is not None
        and not row.state.terminal
        and (row.tenant, row.request) == asked
        and row.reader_ms
        and (row.reader_ms < now or not line.reads(row))
    ]


async def _unchanged(line: Line, tasks: Sequence[Task]) -> list[Task]:
    """Those whose reader has not shown itself, and which may still be of use, as they are now."""
    rows = await line.store.read([Wanted(task.ref) for task in tasks])
    return [
        found.task
        for task, found in zip(tasks, rows, strict=True)
        if found.task is not None
        and found.task.reader_ms == task.reader_ms
        and found.task.state in _USEFUL
    ]


async def _row(line: Line, ref: TaskRef) -> Task | None:
    [found] = await line.store.read([Wanted(ref)], consistent=True)
    return found.task
