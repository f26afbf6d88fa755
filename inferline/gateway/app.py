"""
The gateway as one ASGI app: the inference and the control routes, under every address they have.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from math import inf
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inferline import __version__, logs
from inferline.accounts.caller import Role
from inferline.accounts.keyring import Keyring
from inferline.accounts.keys import KEY_HEADERS
from inferline.accounts.keys import PREFIXES as KEY_PREFIXES
from inferline.aws.stores import open_gateway_stores
from inferline.clock import Clock, SystemClock
from inferline.errors import (
    BodyTooLarge,
    GatewayStopping,
    InferLineError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
)
from inferline.gateway.catalogue import Catalogue
from inferline.gateway.edge import cors
from inferline.gateway.edge.normalization import RequestNormalizer
from inferline.gateway.edge.retry_advice import advised
from inferline.gateway.errors import error_response
from inferline.gateway.polling import SharedPoller
from inferline.gateway.routes import control, inference, keys, overview, tasks, usage
from inferline.gateway.routes.access import Access, KeyAccess, OpenAccess, admin, client, provider
from inferline.gateway.routes.control import Office
from inferline.gateway.submit.submission import Line
from inferline.settings import Settings
from inferline.stores import StackStores
from inferline.telemetry.trace import NO_TRACER, Tracer
from inferline.usage.aggregation import UsageAggregator
from inferline.usage.ledger import Ledger, Ledgers
from inferline.usage.minutes import MinuteLedger

log = logging.getLogger(__name__)

#: Between two writes of its figures by a process of which there are many, seconds.
FIGURES_SECONDS: Final = 60.0
#: Of a field's place, as it is told: part of it may be a client's own.
_PARAM_CHARS_MAX: Final = 200
#: Where every route can be found; the first is the one in the documentation.
PREFIXES: Final = ("/v1", "", "/api", "/api/v1")

_DESCRIPTION: Final = """
An LLM router that works like a conveyor belt, with OpenAI's API.

Every address is also there without `/v1` and under `/api`. Every error has the body
`{"error": {"message", "type", "param", "code"}}` and the header `x-request-id`.
"""


@asynccontextmanager
async def open_office(
    settings: Settings,
    *,
    ledgers: Sequence[Ledger] = (),
    tracer: Tracer = NO_TRACER,
    deployed: bool = False,
) -> AsyncIterator[Office]:
    """
    Everything that the gateway works on, on AWS or an emulator of it.

    ``ledgers`` hear of each request besides the minutes, which are written in the background. What
    was ``deployed`` has its tables and its rights, and makes neither.
    """
    clock: Clock = SystemClock()
    async with open_gateway_stores(settings, deployed=deployed) as stores:
        minutes = MinuteLedger(stores.minutes, lambda: stores.client.calls)
        line = Line(
            settings=settings,
            clock=clock,
            store=stores.store,
            queue=stores.queue,
            bodies=stores.bodies,
            catalogue=_catalogue(settings, stores, clock),
            watch=SharedPoller(stores.store),
            ledger=Ledgers([minutes, *ledgers]),
            tracer=tracer,
        )
        await line.catalogue.fleet()
        async with _background(line, stores, minutes, deployed=deployed):
            office = Office(
                line=line,
                registry=stores.registry,
                queue_maker=stores.queue_maker,
                lender=stores.lender,
                access=_access(settings, stores, clock),
                keys=stores.keys,
                tenants=stores.tenants,
                minutes=minutes,
                usage=stores.usage,
                meters=stores.meters,
            )
            try:
                yield office
            finally:
                await office.quotas.flush()


@asynccontextmanager
async def _background(
    line: Line, stores: StackStores, minutes: MinuteLedger, *, deployed: bool
) -> AsyncIterator[None]:
    """
    Write figures, and count usage where no sweep does, until the block ends.

    On Lambda the sweep also notes ages: so many processes would all write to one row.
    """

    def note_waiting() -> None:
        now_ms = line.store.now_ms()
        minutes.note_ages(now_ms, line.waiting.oldest_ms(now_ms))

    flushing = (
        minutes.flushing(line.clock, seconds=FIGURES_SECONDS)
        if deployed
        else minutes.flushing(line.clock, note_waiting)
    )
    settlement = UsageAggregator(usage=stores.usage, minutes=stores.minutes)
    async with flushing, settlement.running(line.clock) if stores.emulated else nullcontext():
        yield


def _catalogue(settings: Settings, stores: StackStores, clock: Clock) -> Catalogue:
    return Catalogue(
        stores.registry,
        stores.queue,
        clock,
        settings.registry_seconds,
        model_seconds_kept=settings.model_seconds_kept or inf,
        listed=settings.listed_models,
    )


def _access(settings: Settings, stores: StackStores, clock: Clock) -> Access:
    if settings.access == "keys":
        return KeyAccess(Keyring(stores.keys, stores.tenants, stores.client.now_ms), clock)
    return OpenAccess(settings.provider_token)


def create_app(office: Office) -> FastAPI:
    """The gateway's app, working on ``office``."""
    app = _Gateway(
        office.line,
        title="InferLine",
        version=__version__,
        description=_DESCRIPTION,
        # As the rest, they are for who has a key; see `_documents`.
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
        # A redirect would lead to the host that the client names, and on AWS past the stage.
        redirect_slashes=False,
    )
    app.state.office, app.state.line, app.state.access = office, office.line, office.access
    app.include_router(_documents)
    app.state.overview = overview.Overview(office)
    for prefix in PREFIXES:
        documented = prefix == PREFIXES[0]
        for router, role in _ROUTERS:
            callers = [Depends(_CALLERS[role])] if role else []
            if role in office.access.asks:
                callers += [Depends(scheme) for scheme in _keys(role)]
            app.include_router(
                router, prefix=prefix, include_in_schema=documented, dependencies=callers
            )
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


class _Gateway(FastAPI):
    """
    FastAPI's app behind the edge: what passes that may take a shorter way than the framework's.
    """

    def __init__(self, line: Line, **about: Any) -> None:
        super().__init__(**about)
        bytes_max = line.settings.body_bytes_max
        framework = _bounded(super().__call__, bytes_max)
        front = RequestNormalizer(inference.Shortcut(framework, PREFIXES), bytes_max)
        self._edge: ASGIApp = Edge(front, line.closing)
        if origins := line.settings.origins:
            self._edge = cors.opened(self._edge, origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope["app"] = self
        await self._edge(scope, receive, send)


class _Refused(HTTPException):
    """Why a body can't be read, in the one form that the framework passes on."""

    def __init__(self, error: InferLineError) -> None:
        super().__init__(error.status)
        self.error = error


def _bounded(app: ASGIApp, bytes_max: int) -> ASGIApp:
    """``app``, which reads a whole body before it asks for a key, and now no more than that."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        left = bytes_max

        async def receive_some() -> Message:
            nonlocal left
            try:
                message = await receive()
            except InferLineError as error:
                raise _Refused(error) from None
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(BodyTooLarge.status)
            return message

        await app(scope, receive_some, send)

    return serve


#: Whose each route is: nobody gets in by a check that somebody forgot. None: it is for everybody.
_ROUTERS: Final[Sequence[tuple[APIRouter, Role | None]]] = (
    (inference.router, "client"),
    (tasks.router, "client"),
    (control.router, "client"),
    (overview.router, "client"),
    (usage.router, "client"),
    (control.joining, "provider"),
    (keys.router, "admin"),
    (control.public, None),
)
_CALLERS: Final[Mapping[Role, Any]] = {"client": client, "provider": provider, "admin": admin}


def _keys(role: Role) -> Iterator[Any]:
    """What the documentation says of keys; it is `_CALLERS` that look at them."""
    form = f"{KEY_PREFIXES[role]}_…"
    yield HTTPBearer(scheme_name=role, bearerFormat=form, auto_error=False)
    for name in KEY_HEADERS[1:]:
        yield APIKeyHeader(name=name, scheme_name=f"{role}, in {name}", auto_error=False)


_documents: Final = APIRouter(dependencies=[Depends(client)], include_in_schema=False)


@_documents.get("/openapi.json")
async def _openapi(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = request.app.openapi()
    return found


@_documents.get("/docs")
async def _docs(request: Request) -> Response:
    # Relative, because the gateway may be reached at a longer address.
    return get_swagger_ui_html(openapi_url="openapi.json", title=request.app.title)


class Edge:
    """
    The outermost layer: every request gets an id, which is also its task's, and every response the
    header with it and those of the request's limits; an error that nobody foresaw is a 500 like any
    other error.
    """

    def __init__(self, app: ASGIApp, closing: asyncio.Event) -> None:
        """``closing`` is set when this process ends."""
        self._app = app
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(16)}"
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                # A repeat bears the id of the task that was there.
                told = {**state.get("headers", {}), "x-request-id": state["request_id"]}
                added = [(name.encode(), value.encode()) for name, value in told.items()]
                message["headers"] = [*message["headers"], *added]
                if message["status"] >= 400:
                    message["headers"] = advised(message["status"], message["headers"])
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        # The last place where it can be answered.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            told = self._told_of(error, request_id)
            if not started:
                await error_response(told)(scope, receive, send_with_id)

    def _told_of(self, error: BaseException, request_id: str) -> InferLineError:
        if not isinstance(error, asyncio.CancelledError):
            _log_unforeseen(error, request_id)
            return InferLineError()
        if not self._closing.is_set():
            raise error
        return GatewayStopping()  # The time for requests under way is over, and so is this call.


def _log_unforeseen(error: BaseException, request_id: str) -> None:
    """Log where it happened and not its message, which may hold part of a prompt."""
    log.error("%s failed unforeseen: %s", request_id, logs.where(error))


async def _on_error(request: Request, error: Exception) -> Response:
    return error_response(error if isinstance(error, InferLineError) else InferLineError())


async def _on_http_error(request: Request, error: Exception) -> Response:
    if isinstance(error, _Refused):
        return error_response(error.error)
    status = error.status_code if isinstance(error, HTTPException) else 500
    other = InvalidRequest if 400 <= status < 500 else InferLineError
    response = error_response(_HTTP_ERRORS.get(status, other)())
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    if "allow" in response.headers:
        response.headers["allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> Iterator[str]:
    """What the request's address takes, of which each of its routes knows a part."""
    where = ("type", "path", "root_path", "headers")
    asked = {name: request.scope[name] for name in where if name in request.scope}
    for method in ("GET", "POST", "DELETE"):
        scope = {**asked, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            yield from ("GET", "HEAD") if method == "GET" else (method,)


async def _on_invalid(request: Request, error: Exception) -> Response:
    """What is wrong with a control request, without the value that was sent: it may be a secret."""
    found: Any = error.errors() if isinstance(error, RequestValidationError) else []
    first = found[0] if found else {"msg": "The request is not valid", "loc": ()}
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    told = where[:_PARAM_CHARS_MAX] or None
    return error_response(InvalidRequest(f"{first['msg']}.", param=told))


_HTTP_ERRORS: Final[Mapping[int, type[InferLineError]]] = {
    error.status: error for error in (NotFound, MethodNotAllowed, BodyTooLarge)
}
_HANDLERS: Final[dict[type[Exception], Any]] = {
    InferLineError: _on_error,
    HTTPException: _on_http_error,
    RequestValidationError: _on_invalid,
}
