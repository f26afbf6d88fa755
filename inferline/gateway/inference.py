"""
The inference routes: one pass-through path for everything that a backend answers as JSON or SSE.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette._utils import get_route_path
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from inferline import payload
from inferline.caller import Caller
from inferline.errors import BodyTooLarge, InferLineError, InvalidRequest, TaskCancelled
from inferline.gateway import repeat
from inferline.gateway.access import client
from inferline.gateway.answer import Answer
from inferline.gateway.compression import takes_gzip
from inferline.gateway.hints import Patience, idempotency_key, is_retry
from inferline.gateway.line import Line
from inferline.gateway.objects import ERRORS, error_response
from inferline.gateway.quota import Quotas
from inferline.gateway.visit import Visit


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route that is passed through: ours, and the backend's."""

    path: str
    backend_path: str
    summary: str
    #: What a body must have besides `model`, for the documentation; the backend is the judge.
    example: dict[str, Any]


_CHAT: Final = {"messages": [{"role": "user", "content": "Hello!"}], "stream": True}

ENDPOINTS: Final = (
    Endpoint("/chat/completions", "/v1/chat/completions", "Answer a chat", _CHAT),
    Endpoint("/completions", "/v1/completions", "Continue a text", {"prompt": "Once upon a time"}),
    Endpoint("/embeddings", "/v1/embeddings", "Embed texts", {"input": "a text"}),
    Endpoint("/responses", "/v1/responses", "Answer, as the Responses API", {"input": "Hello!"}),
    Endpoint(
        "/messages", "/v1/messages", "Answer, as the Messages API", {**_CHAT, "max_tokens": 64}
    ),
    Endpoint(
        "/messages/count_tokens",
        "/v1/messages/count_tokens",
        "Count the tokens of a Messages request",
        {"messages": _CHAT["messages"]},
    ),
    Endpoint(
        "/rerank", "/v1/rerank", "Rank documents", {"query": "tea", "documents": ["leaf", "bean"]}
    ),
    Endpoint("/score", "/v1/score", "Score pairs of texts", {"text_1": "tea", "text_2": ["leaf"]}),
    Endpoint("/tokenize", "/tokenize", "Count tokens", {"prompt": "a text", "content": "a text"}),
)

#: Of a Content-Length that are looked at: Python makes no number of some thousands.
_LENGTH_DIGITS_MAX: Final = 20

_ANSWER: Final[dict[str, Any]] = {
    "description": "The backend's answer, as it is.",
    "content": {"application/json": {}, "text/event-stream": {}},
    "links": {
        name: {
            "operationRef": f"#/paths/~1v1~1tasks~1{{task_id}}{path}",
            "parameters": {"task_id": "$response.header.x-request-id"},
        }
        for name, path in (
            ("task", "/get"),
            ("stream", "~1stream/get"),
            ("cancel", "~1cancel/post"),
        )
    },
    "headers": {
        name: {"description": what, "schema": {"type": "string"}}
        for name, what in (
            ("x-request-id", "The task's id."),
            ("x-inferline-provider", "Who ran it."),
            ("x-inferline-attempt", "Which attempt answered, from 1."),
            ("x-inferline-queue-ms", "How long it waited for a provider, milliseconds."),
            ("x-ratelimit-limit-requests", "The limit of its key or tenant, whichever is nearer."),
            ("x-ratelimit-remaining-requests", "How many more may be made."),
            ("x-ratelimit-reset-requests", "When all may be made again, such as `6m0s`."),
            ("x-ratelimit-limit-tokens", "The same of tokens, as far as there is a limit."),
            ("x-ratelimit-remaining-tokens", "How many more may be used."),
            ("x-ratelimit-reset-tokens", "When all may be used again."),
        )
    },
}


async def serve(endpoint: Endpoint, request: Request) -> Response:
    """The answer to a request of ``request.state.caller``. Raises InferLineError."""
    line: Line = request.app.state.line
    quotas: Quotas = request.app.state.office.quotas
    caller: Caller = request.state.caller
    told = request.headers.getlist("traceparent")
    visit = Visit(line, endpoint.backend_path, caller, told[0] if len(told) == 1 else "")
    try:
        body = await read_body(request, line.settings.body_bytes_max)
        asked = payload.read(body, line.guard, path=endpoint.backend_path)
        patience = Patience.told(request.headers, line.settings, streamed=asked.stream)
        edge_seconds = getattr(request.state, "seconds_max", inf)
        draft = await line.draft(
            *(request.state.request_id, endpoint.backend_path, asked, body),
            caller=caller,
            seconds_max=min(edge_seconds, patience.total_seconds),
            traceparent=visit.traceparent,
        )
        visit.payload = asked
        held = visit.reservation = await quotas.reserve(caller, endpoint.backend_path, asked, body)
        request.state.headers = held.headers
        seat = await repeat.submit(
            *(line, draft, body),
            is_retry=is_retry(request.headers),
            key=idempotency_key(request.headers),
            is_gone=request.is_disconnected,
            tenant_open=held.open,
        )
    except BaseException as error:
        visit.refused(error if isinstance(error, InferLineError) else InferLineError())
        raise
    visit.task, visit.adopted = seat.task, seat.task.ref != draft.ref
    request.state.request_id = seat.task.ref.id
    first_seconds = patience.first_seconds
    return Answer(
        *(line, seat.task, visit),
        streamed=asked.stream,
        joined=seat.joined,
        first_seconds=first_seconds,
        gzips=line.settings.compression == "gzip" and takes_gzip(request.headers),
        seconds_max=edge_seconds,
    )


class Shortcut:
    """
    The short way of the requests that are most of all: past the framework's routing and
    dependencies, which took a seventh of a request's CPU. All others go the framework's way.
    """

    def __init__(self, app: ASGIApp, prefixes: Iterable[str]) -> None:
        """``prefixes`` are those of the router below, whose routes are for the documentation."""
        self._app = app
        self._endpoints = {p + endpoint.path: endpoint for p in prefixes for endpoint in ENDPOINTS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        is_ours = scope["type"] == "http" and scope["method"] == "POST"
        endpoint = self._endpoints.get(get_route_path(scope)) if is_ours else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            await client(request)
            response = await serve(endpoint, request)
        except InferLineError as error:
            response = error_response(error)
        await response(scope, receive, send)


def _handler(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def route(request: Request) -> Response:
        return await serve(endpoint, request)  # Let in by the router's own check.

    route.__doc__ = (
        "The body goes to the model's backend as it is, and the backend's status, content type and "
        "bytes come back as they are. With `stream: true` the answer is `text/event-stream`."
    )
    return route


async def read_body(request: Request, bytes_max: int) -> bytes:
    """
    The request's body. Raises BodyTooLarge before reading more than ``bytes_max``, and
    TaskCancelled when the client leaves before the end.
    """
    told = request.headers.get("content-length", "0")
    if not (told.isascii() and told.isdigit()):
        raise InvalidRequest("The Content-Length header is not a number.")
    if int(told[:_LENGTH_DIGITS_MAX]) > bytes_max:
        raise _too_large(bytes_max)
    pieces: list[bytes] = []
    length = 0
    try:
        async for piece in request.stream():
            length += len(piece)
            if length > bytes_max:
                raise _too_large(bytes_max)
            pieces.append(piece)
    except ClientDisconnect:
        raise TaskCancelled from None
    return b"".join(pieces)


def _too_large(bytes_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body may have {bytes_max} bytes at the most. Send less.")


def _request_body(endpoint: Endpoint) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["model"],
        "additionalProperties": True,
        "properties": {
            "model": {"type": "string", "minLength": 1, "maxLength": 256},
            "stream": {"type": ["boolean", "null"]},
            "service_tier": {"enum": [*payload.SERVICE_TIERS, None]},
        },
        "example": {"model": "a-model", **endpoint.example},
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}


router = APIRouter(tags=["inference"], responses={**ERRORS, 200: _ANSWER})
for _endpoint in ENDPOINTS:
    router.add_api_route(
        _endpoint.path,
        _handler(_endpoint),
        methods=["POST"],
        summary=_endpoint.summary,
        response_model=None,
        name=_endpoint.path.strip("/").replace("/", "_"),
        openapi_extra={"requestBody": _request_body(_endpoint)},
    )
