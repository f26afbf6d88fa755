"""
The inference routes: one pass-through path for everything that a backend answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final, Literal

from fastapi import APIRouter, Request, Response
from starlette._utils import get_route_path
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from inferline.accounts.caller import Caller
from inferline.errors import BodyTooLarge, InferLineError, InvalidRequest, TaskCancelled
from inferline.gateway.answer.answer import Answer
from inferline.gateway.answer.compression import takes_gzip
from inferline.gateway.answer.request_log import RequestLog
from inferline.gateway.errors import ERRORS, error_response
from inferline.gateway.routes.access import client
from inferline.gateway.submit import repeat
from inferline.gateway.submit.hints import Patience, idempotency_key, is_retry
from inferline.gateway.submit.quota import Quotas
from inferline.gateway.submit.submission import Line
from inferline.validation import form, payload
from inferline.validation.forwarding import (
    ANTHROPIC,
    CONTENT_TYPE,
    NOTHING,
    Forwarded,
    parameters_of,
    query_of,
    value_of,
)
from inferline.validation.guard import Guard
from inferline.validation.multipart import is_form
from inferline.validation.output_rules import may_be_media
from inferline.validation.payload import Payload


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route that is passed through: ours, and the backend's."""

    path: str
    backend_path: str
    summary: str
    #: What a body must have besides `model`, for the documentation; the backend is the judge.
    example: dict[str, Any]
    method: Literal["POST", "GET"] = "POST"
    #: Whether the body may be a form, in which this part is a file.
    file: str = ""
    #: Whether it has to name its model. Where servers have one model, clients name none.
    needs_model: bool = True
    #: The client's headers that go on to the backend.
    headers: tuple[str, ...] = ()


_CHAT: Final = {"messages": [{"role": "user", "content": "Hello!"}], "stream": True}
_TEXT: Final = {"input": "a text"}
_PICTURE: Final = {"prompt": "a red cup"}

ENDPOINTS: Final = (
    Endpoint("/chat/completions", "/v1/chat/completions", "Answer a chat", _CHAT),
    Endpoint("/completions", "/v1/completions", "Continue a text", {"prompt": "Once upon a time"}),
    Endpoint("/embeddings", "/v1/embeddings", "Embed texts", _TEXT),
    Endpoint("/responses", "/v1/responses", "Answer, as the Responses API", {"input": "Hello!"}),
    Endpoint(
        *("/messages", "/v1/messages", "Answer, as the Messages API", {**_CHAT, "max_tokens": 64}),
        headers=ANTHROPIC,
    ),
    Endpoint(
        "/messages/count_tokens",
        "/v1/messages/count_tokens",
        "Count the tokens of a Messages request",
        {"messages": _CHAT["messages"]},
        headers=ANTHROPIC,
    ),
    Endpoint(
        "/rerank", "/v1/rerank", "Rank documents", {"query": "tea", "documents": ["leaf", "bean"]}
    ),
    Endpoint("/score", "/v1/score", "Score pairs of texts", {"text_1": "tea", "text_2": ["leaf"]}),
    Endpoint("/classify", "/classify", "Classify texts", _TEXT),
    Endpoint("/pooling", "/pooling", "Embed texts, in the model's own form", _TEXT),
    Endpoint(
        *("/chat/completions/input_tokens", "/v1/chat/completions/input_tokens"),
        *("Count the tokens of a chat", _CHAT),
    ),
    Endpoint(
        *("/responses/input_tokens", "/v1/responses/input_tokens"),
        *("Count the tokens of a response's input", {"input": "Hello!"}),
    ),
    Endpoint(
        *("/tokenize", "/tokenize", "Count tokens", {"prompt": "a text", "content": "a text"}),
        needs_model=False,
    ),
    Endpoint(
        *("/detokenize", "/detokenize", "Turn tokens into text", {"tokens": [1, 2]}),
        needs_model=False,
    ),
    Endpoint(
        *("/tokenizer_info", "/tokenizer_info", "Tell of the tokenizer", {}),
        method="GET",
        needs_model=False,
    ),
    Endpoint(
        *("/infill", "/infill", "Fill in code"),
        {"input_prefix": "def add(", "input_suffix": "return a + b"},
        needs_model=False,
    ),
    Endpoint(
        *("/apply-template", "/apply-template", "Write a chat as its model reads it", _CHAT),
        needs_model=False,
    ),
    Endpoint(
        *("/audio/transcriptions", "/v1/audio/transcriptions", "Write down speech", {}),
        file="file",
    ),
    Endpoint(
        *("/audio/translations", "/v1/audio/translations", "Write down speech in English", {}),
        file="file",
    ),
    Endpoint("/audio/speech", "/v1/audio/speech", "Read a text out", {**_TEXT, "voice": "alloy"}),
    Endpoint("/images/generations", "/v1/images/generations", "Make a picture", _PICTURE),
    Endpoint("/images/edits", "/v1/images/edits", "Change a picture", _PICTURE, file="image"),
    Endpoint("/images/variations", "/v1/images/variations", "Vary a picture", {}, file="image"),
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


#: What else the answers of some endpoints may be.
_MEDIA: Final[dict[str, Any]] = {"text/plain": {}, "application/octet-stream": {}}


async def serve(endpoint: Endpoint, request: Request) -> Response:
    """The answer to a request of ``request.state.caller``. Raises InferLineError."""
    line: Line = request.app.state.line
    quotas: Quotas = request.app.state.office.quotas
    caller: Caller = request.state.caller
    told = request.headers.getlist("traceparent")
    visit = RequestLog(line, endpoint.backend_path, caller, told[0] if len(told) == 1 else "")
    try:
        body = await read_body(request, line.settings.body_bytes_max)
        body = b"" if endpoint.method == "GET" else body
        forwarded = _forwarded(endpoint, request, line.guard)
        asked = await _asked(endpoint, line, caller, forwarded, body)
        patience = Patience.told(request.headers, line.settings, streamed=asked.stream)
        edge_seconds = getattr(request.state, "seconds_max", inf)
        draft = await line.draft(
            *(request.state.request_id, endpoint.backend_path, asked, body),
            caller=caller,
            seconds_max=min(edge_seconds, patience.total_seconds),
            traceparent=visit.traceparent,
            forwarded=forwarded,
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


def _forwarded(endpoint: Endpoint, request: Request, guard: Guard) -> Forwarded:
    """What goes on to the backend beside the body. Raises RequestError."""
    query = query_of(raw) if (raw := request.scope["query_string"]) else ""
    headers = {}
    for name in endpoint.headers:
        if lines := request.headers.getlist(name):
            headers[name] = value_of(name, lines)
    if endpoint.file:
        content_type = value_of(CONTENT_TYPE, request.headers.getlist(CONTENT_TYPE) or ["none"])
        if is_form(content_type):
            headers[CONTENT_TYPE] = content_type
    if not (query or headers):
        return NOTHING
    for name, value in parameters_of(query):
        guard.check_field(name, value)
    return Forwarded(query, headers)


async def _asked(
    endpoint: Endpoint, line: Line, caller: Caller, forwarded: Forwarded, body: bytes
) -> Payload:
    """What the request asks for. Raises RequestError or Unavailable."""
    if form_type := forwarded.headers.get(CONTENT_TYPE):
        return await asyncio.to_thread(form.read, form_type, body, line.guard)
    if endpoint.method == "GET":
        asked = Payload(model="")
    else:
        asked = payload.read(
            *(body, line.guard), path=endpoint.backend_path, needs_model=endpoint.needs_model
        )
    if endpoint.needs_model:
        return asked
    return replace(asked, model=await _model(line, caller, forwarded, asked.model))


async def _model(line: Line, caller: Caller, forwarded: Forwarded, in_body: str) -> str:
    """
    The model that the body names, else the query, else the only one there is for the caller.
    """
    queried = (value for name, value in parameters_of(forwarded.query) if name == "model")
    named = [payload.model_of({"model": value}) for value in queried]
    if in_body:
        return in_body
    if not named:
        models = await line.catalogue.models()
        named = [shown for shown in map(caller.shown, models) if shown]
    if len(named) != 1:
        raise InvalidRequest("Name the model, as in `?model=…`.", param="model")
    return named[0]


class Shortcut:
    """
    The short way of the requests that are most of all: past the framework's routing and
    dependencies, which took a seventh of a request's CPU. All others go the framework's way.
    """

    def __init__(self, app: ASGIApp, prefixes: Iterable[str]) -> None:
        """``prefixes`` are those of the router below, whose routes are for the documentation."""
        self._app = app
        posts = [endpoint for endpoint in ENDPOINTS if endpoint.method == "POST"]
        self._endpoints = {p + endpoint.path: endpoint for p in prefixes for endpoint in posts}

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


def _request(endpoint: Endpoint) -> dict[str, Any]:
    """The request of an endpoint, as OpenAPI has it."""
    model = {"type": "string", "minLength": 1, "maxLength": 256}
    of_query = {"name": "model", "in": "query", "required": False, "schema": model}
    parameters = {} if endpoint.needs_model else {"parameters": [of_query]}
    model = model if endpoint.needs_model else {**model, "type": ["string", "null"]}
    if endpoint.method == "GET":
        return parameters
    schema = {
        "type": "object",
        "required": ["model"] if endpoint.needs_model else [],
        "additionalProperties": True,
        "properties": {
            "model": model,
            "stream": {"type": ["boolean", "null"]},
            "service_tier": {"enum": [*payload.SERVICE_TIERS, None]},
        },
        "example": {"model": "a-model", **endpoint.example},
    }
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if endpoint.file:
        file = {"type": "string", "format": "binary"}
        fields = {"model": model, "stream": {"type": "boolean"}, endpoint.file: file}
        content = {"multipart/form-data": {"schema": {**schema, "properties": fields}}, **content}
    return {**parameters, "requestBody": {"required": True, "content": content}}


def _answer(endpoint: Endpoint) -> dict[str, Any]:
    if not may_be_media(endpoint.backend_path):
        return _ANSWER
    return {**_ANSWER, "content": {**_ANSWER["content"], **_MEDIA}}


router = APIRouter(tags=["inference"], responses=ERRORS)
for _endpoint in ENDPOINTS:
    router.add_api_route(
        _endpoint.path,
        _handler(_endpoint),
        methods=[_endpoint.method],
        summary=_endpoint.summary,
        response_model=None,
        responses={200: _answer(_endpoint)},
        name=_endpoint.path.strip("/").replace("/", "_"),
        openapi_extra=_request(_endpoint),
    )
