"""The task routes: what became of a request, the rest of its answer, and its end before that."""

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
from inferline.gateway.answer.compression import takes_gzip
from inferline.gateway.answer.contract import Contract
from inferline.gateway.answer.reader import Reader, ended_without_answer
from inferline.gateway.answer.request_log import RequestLog
from inferline.gateway.answer.sender import EVENT_STREAM
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

_ID: Final = re.compile(rf"req_[0-9a-f]{{32}}(?P<mark>[0-9a-f]{{{MODEL_HASH_CHARS}}}|)")
#: How often a whole answer is asked for whose last pieces may be seen late, and how far apart.
LOOKS_MAX: Final = 50
LOOK_SECONDS: Final = 0.05


router = APIRouter(prefix="/tasks", tags=["tasks"], responses=ERRORS)
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The rest of the answer; all of it, where it is no stream.",
        "content": {EVENT_STREAM: {}, "application/json": {}},
    }
}


@router.get("/{task_id}", summary="Tell of a task")
async def get_task(task_id: str, caller: ClientCaller, parts: Parts) -> TaskObject:
    """How it stands, and its answer or its error. The id is the request's `x-request-id`."""
    return await _told(parts, await _found(parts, task_id, caller))


@router.get(
    "/{task_id}/stream",
    summary="Go on with a stream",
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
    A streamed answer after its first `after` events, as it comes if it is still under way.

    An event is what carries data, `[DONE]` included; comments do not count. Whoever reads a task
    is its client from then on: it goes on while they are there.
    """
    task = await _found(parts, task_id, caller)
    request.state.request_id = task.ref.id
    if getattr(request.state, "is_head", False):  # To look is not to take it over.
        return Response(media_type=EVENT_STREAM)
    seat = await attach_reader(parts, task)
    # It was a request once; going on with it is none.
    unrecorded = replace(parts, ledger=NO_LEDGER, tracer=NO_TRACER)
    visit = RequestLog(unrecorded, task.path, caller)
    gzips = parts.settings.compression == "gzip" and takes_gzip(request.headers)
    return Answer(
        *(parts, seat.task, visit),
        streamed=True,
        joined=seat.joined,
        after=after,
        gzips=gzips,
        seconds_max=getattr(request.state, "seconds_max", inf),
    )


@router.post("/{task_id}/cancel", summary="Cancel a task")
async def cancel(task_id: str, caller: ClientCaller, parts: Parts) -> TaskObject:
    """Idempotent. The backend's slot is free within a second; what has ended stays as it ended."""
    task = await _found(parts, task_id, caller)
    if not task.state.terminal:
        await parts.store.cancel(task.ref)
        [found] = await parts.store.read([Wanted(task.ref)], consistent=True)
        task = found.task or task
    return await _told(parts, task)


async def _found(parts: GatewayParts, task_id: str, caller: Caller) -> Task:
    """
    The caller's task of that id. Raises TaskNotFound, also for another tenant's.

    No row is found by the id alone, but it tells the model; those of an earlier release do not, and
    are asked for in every model's name.
    """
    match = _ID.fullmatch(task_id)
    if match is None:
        raise TaskNotFound
    slugs = await parts.catalogue.slugs(match["mark"])
    rows = await parts.store.read([Wanted(TaskRef(slug, task_id)) for slug in slugs])
    for row in rows:
        if row.task is not None and row.task.tenant == caller.tenant:
            Contract(parts.settings, row.task).check(row)
            return row.task
    raise TaskNotFound


async def _told(parts: GatewayParts, task: Task) -> TaskObject:
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
    """The answer of a task that is DONE, if it is JSON or a text. Raises Unavailable."""
    is_text = is_document(task.content_type) or task.content_type.lower().startswith("text/")
    is_stream = task.content_type.startswith(EVENT_STREAM)
    if task.state is not State.DONE or is_stream or (task.content_type and not is_text):
        return None
    reader, pieces = Reader(task.ref, streamed=False), list[bytes]()
    contract = Contract(parts.settings, task)
    for _ in range(LOOKS_MAX + task.chunks):
        wanted = reader.wanted()
        at_once = reader.behind or reader.task is None
        found = await parts.watch.next_change(wanted, None, lambda: LOOK_SECONDS, at_once=at_once)
        contract.check(found)
        pieces += (taken := reader.take(wanted, found))
        contract.count(taken, parts.store.now_ms())
        if reader.ended:
            body = b"".join(pieces)
            asked = parts.settings.response_model == "requested"
            return _document(Naming(task.model).whole(body) if asked else body)
    raise Unavailable


def _document(body: bytes) -> Any:
    """JSON as what it says; what is no JSON, as text."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
