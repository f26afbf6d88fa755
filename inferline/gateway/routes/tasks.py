"""The task routes: a task's state and answer, the rest of its stream, and its cancellation."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from math import inf
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from inferline.accounts.caller import Caller
from inferline.errors import TaskNotFound, Unavailable
from inferline.gateway.answer.answer import Answer
from inferline.gateway.answer.contract import Contract
from inferline.gateway.answer.reader import Reader, ended_without_answer
from inferline.gateway.answer.request_log import RequestLog
from inferline.gateway.answer.sender import EVENT_STREAM
from inferline.gateway.answer.stages.compression import takes_gzip
from inferline.gateway.answer.stages.model_name import Naming
from inferline.gateway.errors import ERRORS, ErrorObject
from inferline.gateway.parts import GatewayParts
from inferline.gateway.routes.access import ClientCaller
from inferline.gateway.routes.dependencies import Parts
from inferline.gateway.routes.objects import TaskObject
from inferline.gateway.submit.repeat import attach_reader
from inferline.names import MODEL_HASH_CHARS
from inferline.tasks.store import Wanted
from inferline.tasks.task import State, Task, TaskRef
from inferline.telemetry import genai
from inferline.telemetry.trace import NO_TRACER
from inferline.usage.ledger import NO_LEDGER
from inferline.validation.output_rules import is_document

_ID: Final = re.compile(rf"req_[0-9a-f]{{32}}(?P<model_hash>[0-9a-f]{{{MODEL_HASH_CHARS}}}|)")
#: How often a whole answer is read whose last chunks may be visible late, and seconds between.
POLLS_MAX: Final = 50
POLL_SECONDS: Final = 0.05


router = APIRouter(prefix="/tasks", tags=["tasks"], responses=ERRORS)
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The rest of the stream, or the whole answer if it is not a stream.",
        "content": {EVENT_STREAM: {}, "application/json": {}},
    }
}


@router.get("/{task_id}", summary="Get a task")
async def get_task(task_id: str, caller: ClientCaller, parts: Parts) -> TaskObject:
    """Return its state, and its answer or error. The id is the request's `x-request-id`."""
    return await _task_object(parts, await _task_of(parts, task_id, caller))


@router.get(
    "/{task_id}/stream",
    summary="Resume a stream",
    response_class=Response,
    response_model=None,
    responses=_STREAM,
)
async def resume(
    request: Request,
    task_id: str,
    caller: ClientCaller,
    parts: Parts,
    after: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> Response:
    """
    Send a streamed answer from after its first `after` events, live if it is still under way.

    Events are those with data, `[DONE]` included; comments do not count. Whoever reads a task
    becomes its client: it runs as long as they stay.
    """
    task = await _task_of(parts, task_id, caller)
    request.state.request_id = task.ref.id
    if getattr(request.state, "is_head", False):  # A HEAD request must not take the task over.
        return Response(media_type=EVENT_STREAM)
    subscription = await attach_reader(parts, task)
    # Its first request is on record; the resumption is not another.
    unrecorded = replace(parts, ledger=NO_LEDGER, tracer=NO_TRACER)
    request_log = RequestLog(unrecorded, task.path, caller)
    gzips = parts.settings.compression == "gzip" and takes_gzip(request.headers)
    return Answer(
        parts,
        subscription.task,
        request_log,
        streamed=True,
        joined=subscription.joined,
        after=after,
        gzips=gzips,
        seconds_max=getattr(request.state, "seconds_max", inf),
    )


@router.post("/{task_id}/cancel", summary="Cancel a task")
async def cancel(task_id: str, caller: ClientCaller, parts: Parts) -> TaskObject:
    """
    Cancel a task. Idempotent. The provider stops at its next check; an ended task stays as it is.
    """
    task = await _task_of(parts, task_id, caller)
    if not task.state.terminal:
        await parts.store.cancel(task.ref)
        [row] = await parts.store.read([Wanted(task.ref)], consistent=True)
        task = row.task or task
    return await _task_object(parts, task)


async def _task_of(parts: GatewayParts, task_id: str, caller: Caller) -> Task:
    """
    Return the caller's task of that id. Raises TaskNotFound, also for another tenant's.

    A row's key has the model as well, which the id ends in. Ids of an earlier release do not, and
    are searched for under every model.
    """
    match = _ID.fullmatch(task_id)
    if match is None:
        raise TaskNotFound
    slugs = await parts.catalogue.slugs(match["model_hash"])
    rows = await parts.store.read([Wanted(TaskRef(slug, task_id)) for slug in slugs])
    for row in rows:
        if row.task is not None and row.task.tenant == caller.tenant:
            Contract(parts.settings, row.task).check(row)
            return row.task
    raise TaskNotFound


async def _task_object(parts: GatewayParts, task: Task) -> TaskObject:
    has_error = task.state.terminal and task.state is not State.DONE
    error = ended_without_answer(task).body()["error"] if has_error else None
    return TaskObject(
        id=task.ref.id,
        state=task.state,
        model=task.model,
        tier=task.tier,
        created_ms=task.created_ms,
        deadline_ms=task.deadline_ms,
        queue_ms=task.queue_ms if task.attempt else None,
        attempt=task.attempt,
        provider=task.owner or None,
        status=task.status or None,
        usage=genai.counts(task.usage) or None,
        error=ErrorObject(**error) if error else None,
        result=await _result(parts, task),
    )


async def _result(parts: GatewayParts, task: Task) -> Any:
    """Return the answer of a task that is DONE, if it is JSON or a text. Raises Unavailable."""
    is_text = is_document(task.content_type) or task.content_type.lower().startswith("text/")
    is_stream = task.content_type.startswith(EVENT_STREAM)
    if task.state is not State.DONE or is_stream or (task.content_type and not is_text):
        return None
    reader, pieces = Reader(task.ref, streamed=False), list[bytes]()
    contract = Contract(parts.settings, task)
    for _ in range(POLLS_MAX + task.chunks):
        wanted = reader.wanted()
        at_once = reader.behind or reader.task is None
        read = await parts.watch.next_change(wanted, None, lambda: POLL_SECONDS, at_once=at_once)
        contract.check(read)
        pieces += (taken := reader.take(wanted, read))
        contract.count(taken, parts.store.now_ms())
        if reader.ended:
            body = b"".join(pieces)
            asked = parts.settings.response_model == "requested"
            return _document(Naming(task.model).whole(body) if asked else body)
    raise Unavailable


def _document(body: bytes) -> Any:
    """Return JSON parsed, and anything else as text."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
