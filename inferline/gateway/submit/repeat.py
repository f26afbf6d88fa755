"""
Repeats: a request that was sent before gets the task of that time instead of a new one.

An SDK sends a request again when it got no answer. Mostly the earlier task has ended with the
connection; but if the gateway died, the task still runs and nobody reads it. And a client that
sends an Idempotency-Key wants one task for it, however often it sends the request.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from inferline.errors import GatewayStopping, IdempotencyKeyReused, TaskCancelled, Unavailable
from inferline.gateway.parts import GatewayParts
from inferline.gateway.submit.submission import Submission, Submitter
from inferline.tasks.store import Binding, Wanted
from inferline.tasks.task import LIVE, State, Task, TaskRef
from inferline.validation.forwarding import CONTENT_TYPE
from inferline.validation.multipart import rebound

log = logging.getLogger(__name__)

#: How many live tasks of a model are searched for one that lost its reader.
LIVE_TASKS_MAX: Final = 100
#: With more candidates than this, a retry does not wait to see which lost its reader: then one
#: prompt is sent many times at once, and each request wants an answer of its own.
CANDIDATES_MAX: Final = 4
#: Between two reads of the candidates, seconds.
POLL_SECONDS: Final = 0.25
#: How often a key that keeps changing hands is read, or a reader lease tried.
TRIES_MAX: Final = 5
#: Statuses of a backend's answer that may be better the next time.
_WORTH_REPEATING: Final = frozenset({408, 409, 429})
_USEFUL: Final = LIVE | {State.DONE}


IsGone = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A client's place as a reader of a task."""

    task: Task
    #: True if somebody else was still reading it: then this client's leaving cancels nothing.
    joined: bool = False


async def submit(
    submitter: Submitter, submission: Submission, *, is_retry: bool, key: str, is_gone: IsGone
) -> Subscription:
    """
    Submit a task, or subscribe to the earlier task that it repeats.

    ``is_gone`` tells if the client has left. Raises IdempotencyKeyReused, TaskCancelled if the
    client left before there was a task to cancel, and what `Submitter.submit` raises.
    """
    if key:
        return await _submit_once(submitter, submission, key)
    if is_retry:
        orphan = await _adopt(submitter.parts, submission.task, is_gone)
        submission = await submitter.renewed(submission)
        if orphan is not None:
            if orphan.state is State.QUEUED:
                await submitter.send_again(_resubmission(submission, orphan))
            return Subscription(orphan)
    await submitter.submit(submission)
    return Subscription(submission.task)


async def attach_reader(parts: GatewayParts, task: Task) -> Subscription:
    """Become the reader of ``task`` in place of any other."""
    for _ in range(TRIES_MAX):
        if task.state.terminal:
            break
        reader = parts.readers.new()
        if await parts.store.renew_reader_lease(task, reader, parts.settings.reader_seconds):
            is_read = task.reader_ms >= parts.store.now_ms()
            return Subscription(replace(task, reader=reader), joined=is_read)
        task = await _read(parts, task.ref) or task
    return Subscription(task, joined=True)


async def _submit_once(submitter: Submitter, submission: Submission, key: str) -> Subscription:
    """Submit the one task of ``key``, or subscribe to it if there is one already."""
    parts, task = submitter.parts, submission.task
    kept = task.created_ms // 1000 + parts.settings.idempotency_seconds_kept
    task = replace(task, ttl=max(task.ttl, kept))
    submission = replace(submission, task=task)
    # Keys are per tenant.
    digest = hashlib.sha256(f"{task.tenant}\0{key}".encode()).hexdigest()
    request = task.request
    bound = await parts.store.binding(task.ref.slug, digest)
    for _ in range(TRIES_MAX):
        if bound is not None:
            earlier = await _bound_task(parts, task.ref.slug, bound, request)
            if earlier is not None:
                return await _subscribe(submitter, submission, earlier)
        instead_of = bound.task_id if bound else ""
        bound = await submitter.submit_once(submission, digest, request, instead_of)
        if bound is None:
            return Subscription(task)
    raise Unavailable


async def _subscribe(submitter: Submitter, submission: Submission, earlier: Task) -> Subscription:
    subscription = await attach_reader(submitter.parts, earlier)
    if subscription.task.state is State.QUEUED:
        # The gateway that submitted it may have died before it sent the message.
        await submitter.send_again(_resubmission(submission, subscription.task))
    return subscription


def _resubmission(submission: Submission, earlier: Task) -> Submission:
    """Return the submission of an earlier task of the same request, with the body that it had."""
    had = earlier.request_headers.get(CONTENT_TYPE)
    has = submission.task.request_headers.get(CONTENT_TYPE)
    body = submission.body
    if has and had and has != had:
        body = rebound(body, has, had)
    return replace(submission, task=earlier, body=body)


async def _bound_task(parts: GatewayParts, slug: str, bound: Binding, request: str) -> Task | None:
    """Return a key's task, None if it is of no use any more. Raises IdempotencyKeyReused."""
    if bound.request != request:
        raise IdempotencyKeyReused
    earlier = await _read(parts, TaskRef(slug, bound.task_id))
    if earlier is None or earlier.state not in _USEFUL:
        return None
    is_failed = earlier.status >= 500 or earlier.status in _WORTH_REPEATING
    return None if is_failed else earlier


async def _adopt(parts: GatewayParts, task: Task, is_gone: IsGone) -> Task | None:
    """Return the request's earlier task without a reader, read by this process from now on."""
    try:
        return await _adopted(parts, task, is_gone)
    except Unavailable:  # That is no reason to refuse a request.
        log.warning("a retry could not look for its task", extra={"task": task.ref.id})
        return None


async def _adopted(parts: GatewayParts, task: Task, is_gone: IsGone) -> Task | None:
    """
    Wait until a candidate has surely lost its reader, or all of them surely have one.

    Raises GatewayStopping, and TaskCancelled when the client leaves.
    """
    candidates = await _candidates(parts, task)
    while candidates:
        now = parts.store.now_ms()
        for orphan in (each for each in candidates if each.reader_ms < now):
            if orphan.state is State.DONE:
                return orphan
            reader = parts.readers.new()
            if await parts.store.renew_reader_lease(orphan, reader, parts.settings.reader_seconds):
                return replace(orphan, reader=reader)
        unsure = [each for each in candidates if each.reader_ms >= now]
        if not 0 < len(unsure) <= CANDIDATES_MAX:
            return None
        await parts.clock.sleep(POLL_SECONDS)
        if parts.closing.is_set():
            raise GatewayStopping
        if await is_gone():  # The client's next retry will adopt the task.
            raise TaskCancelled
        candidates = await _without_renewed(parts, unsure)
    return None


async def _candidates(parts: GatewayParts, task: Task) -> list[Task]:
    """Return the live tasks of the same request, without those that this process reads."""
    refs = [ref for ref, _ in await parts.store.live(task.ref.slug, LIVE_TASKS_MAX)]
    if not refs:
        return []
    rows = [read.task for read in await parts.store.read([Wanted(ref) for ref in refs])]
    tenant, request = task.tenant, task.request
    now = parts.store.now_ms()
    return [
        row
        for row in rows
        if row is not None
        and not row.state.terminal
        and (row.tenant, row.request) == (tenant, request)
        and row.reader_ms
        and (row.reader_ms < now or not parts.readers.reads(row))
    ]


async def _without_renewed(parts: GatewayParts, tasks: Sequence[Task]) -> list[Task]:
    """Return those tasks as they are now whose reader lease nobody renewed meanwhile."""
    rows = await parts.store.read([Wanted(task.ref) for task in tasks])
    return [
        row.task
        for task, row in zip(tasks, rows, strict=True)
        if row.task is not None
        and row.task.reader_ms == task.reader_ms
        and row.task.state in _USEFUL
    ]


async def _read(parts: GatewayParts, ref: TaskRef) -> Task | None:
    [row] = await parts.store.read([Wanted(ref)], consistent=True)
    return row.task
