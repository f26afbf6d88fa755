"""The inference routes: one way from any endpoint's request to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from inferline.accounts.caller import Caller
from inferline.errors import BodyTooLarge, InferLineError, InvalidRequest, TaskCancelled
from inferline.gateway.answer.answer import Answer
from inferline.gateway.answer.request_log import RequestLog
from inferline.gateway.answer.stages.compression import takes_gzip
from inferline.gateway.errors import error_response
from inferline.gateway.parts import GatewayParts
from inferline.gateway.routes.access import client
from inferline.gateway.routes.endpoints import ENDPOINTS, Endpoint
from inferline.gateway.submit import repeat
from inferline.gateway.submit.hints import Patience, idempotency_key, is_retry
from inferline.gateway.submit.rate_limiter import RateLimiter
from inferline.gateway.submit.submission import Submission, Submitter
from inferline.validation import form, payload
from inferline.validation.forwarding import (
    CONTENT_TYPE,
    NOTHING,
    Forwarded,
    parameters_of,
    query_of,
    value_of,
)
from inferline.validation.guard import Guard
from inferline.validation.multipart import is_form
from inferline.validation.payload import Payload

#: Digits of a Content-Length that are read: Python refuses to convert some thousands.
_LENGTH_DIGITS_MAX: Final = 20


class EndpointApp:
    """The ASGI app of one endpoint. It checks the caller itself; no other code lets them in."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        try:
            await client(request)
            response = await serve(self._endpoint, request)
        except InferLineError as error:
            response = error_response(error)
        await response(scope, receive, send)


def routes(prefixes: Iterable[str]) -> list[Route]:
    """Return the route of each endpoint below each prefix."""
    apps = [(endpoint, EndpointApp(endpoint)) for endpoint in ENDPOINTS]
    return [
        Route(f"{prefix}{endpoint.path}", app, methods=[endpoint.method], include_in_schema=False)
        for prefix in prefixes
        for endpoint, app in apps
    ]


class InferenceFirst:
    """
    Looks up an inference route by its address before ``app`` tries all routes one by one.

    The framework's routing and dependencies took a seventh of such a request's CPU time.
    """

    def __init__(self, app: ASGIApp, inference: Sequence[Route]) -> None:
        self._app = app
        self._apps = {
            (method, route.path): route.app for route in inference for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        app = self._app
        if scope["type"] == "http":
            app = self._apps.get((scope["method"], _path_below_root(scope)), app)
        await app(scope, receive, send)


def _path_below_root(scope: Scope) -> str:
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


async def serve(endpoint: Endpoint, request: Request) -> Response:
    """Submit the request of ``request.state.caller``, and return its answer. Raises its errors."""
    submitter: Submitter = request.app.submitter
    rate_limiter: RateLimiter = request.app.rate_limiter
    parts, caller = submitter.parts, request.state.caller
    traceparents = request.headers.getlist("traceparent")
    traceparent = traceparents[0] if len(traceparents) == 1 else ""
    request_log = RequestLog(parts, endpoint.backend_path, caller, traceparent)
    try:
        body = await read_body(request, parts.settings.body_bytes_max)
        body = b"" if endpoint.method == "GET" else body
        forwarded = _forwarded(endpoint, request, parts.guard)
        asked = await _payload(endpoint, parts, caller, forwarded, body)
        patience = Patience.of(request.headers, parts.settings, streamed=asked.stream)
        edge_seconds = getattr(request.state, "seconds_max", inf)
        submission = await submitter.prepare(
            request.state.request_id,
            endpoint.backend_path,
            asked,
            body,
            caller=caller,
            seconds_max=min(edge_seconds, patience.total_seconds),
            traceparent=request_log.traceparent,
            forwarded=forwarded,
        )
        request_log.payload = asked
        reservation = await rate_limiter.reserve(caller, endpoint.backend_path, asked, body)
        request_log.reservation = reservation
        request.state.headers = reservation.headers
        subscription = await _submit(submitter, submission, request, reservation.open)
    except BaseException as error:
        request_log.refused(error if isinstance(error, InferLineError) else InferLineError())
        raise
    task = subscription.task
    request_log.task, request_log.adopted = task, task.ref != submission.task.ref
    request.state.request_id = task.ref.id
    return Answer(
        parts,
        task,
        request_log,
        streamed=asked.stream,
        joined=subscription.joined,
        first_seconds=patience.first_seconds,
        gzips=parts.settings.compression == "gzip" and takes_gzip(request.headers),
        seconds_max=edge_seconds,
    )


async def _submit(
    submitter: Submitter, submission: Submission, request: Request, tenant_open: int
) -> repeat.Subscription:
    return await repeat.submit(
        submitter,
        replace(submission, tenant_open=tenant_open) if tenant_open else submission,
        is_retry=is_retry(request.headers),
        key=idempotency_key(request.headers),
        is_gone=request.is_disconnected,
    )


def _forwarded(endpoint: Endpoint, request: Request, guard: Guard) -> Forwarded:
    """Return what goes to the backend besides the body. Raises RequestError."""
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


async def _payload(
    endpoint: Endpoint, parts: GatewayParts, caller: Caller, forwarded: Forwarded, body: bytes
) -> Payload:
    """Read the request's fields. Raises RequestError or Unavailable."""
    if form_type := forwarded.headers.get(CONTENT_TYPE):
        return await asyncio.to_thread(form.read, form_type, body, parts.guard)
    if endpoint.method == "GET":
        asked = Payload(model="")
    else:
        asked = payload.read(
            body, parts.guard, path=endpoint.backend_path, needs_model=endpoint.needs_model
        )
    if endpoint.needs_model:
        return asked
    return replace(asked, model=await _model(parts, caller, forwarded, asked.model))


async def _model(parts: GatewayParts, caller: Caller, forwarded: Forwarded, in_body: str) -> str:
    """Return the model named in the body, else in the query, else the caller's only model."""
    queried = (value for name, value in parameters_of(forwarded.query) if name == "model")
    named = [payload.model_of({"model": value}) for value in queried]
    if in_body:
        return in_body
    if not named:
        models = await parts.catalogue.models()
        named = [name for name in map(caller.visible_name, models) if name]
    if len(named) != 1:
        raise InvalidRequest("Name the model, as in `?model=…`.", param="model")
    return named[0]


async def read_body(request: Request, bytes_max: int) -> bytes:
    """
    Read the request's body.

    Raises BodyTooLarge before it reads more than ``bytes_max``, and TaskCancelled if the client
    leaves before the end.
    """
    declared = request.headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit()):
        raise InvalidRequest("The Content-Length header is not a number.")
    if int(declared[:_LENGTH_DIGITS_MAX]) > bytes_max:
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
    return BodyTooLarge(f"The request body may have {bytes_max} bytes at most. Send less.")
