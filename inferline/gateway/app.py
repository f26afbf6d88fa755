"""The gateway as one ASGI app: its parts, its routes, and the layers around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from inferline import __version__
from inferline.accounts.caller import Role
from inferline.accounts.keyring import Keyring
from inferline.accounts.keys import KEY_HEADERS
from inferline.accounts.keys import PREFIXES as KEY_PREFIXES
from inferline.aws.stores import open_gateway_stores
from inferline.clock import SystemClock
from inferline.gateway.batches import routes as batches
from inferline.gateway.batches.jobs import BatchJobs
from inferline.gateway.edge import cors, framework
from inferline.gateway.edge.normalization import RequestNormalizer
from inferline.gateway.edge.request_ids import RequestIds
from inferline.gateway.enrol.enrolments import Enrolments
from inferline.gateway.files import files, uploads
from inferline.gateway.files.transfers import Transfers
from inferline.gateway.parts import GatewayParts, assemble
from inferline.gateway.prefixes import PREFIXES
from inferline.gateway.routes import (
    control,
    inference,
    inference_openapi,
    keys,
    overview,
    tasks,
    usage,
)
from inferline.gateway.routes.access import Access, KeyAccess, OpenAccess, admin, client, provider
from inferline.gateway.submit.rate_limiter import RateLimiter
from inferline.gateway.submit.submission import Submitter
from inferline.settings import Settings
from inferline.telemetry.trace import NO_TRACER, Tracer
from inferline.usage.aggregation import UsageAggregator
from inferline.usage.ledger import Ledger

#: Between two writes of the minute metrics by one of many processes, seconds.
METRICS_SECONDS: Final = 60.0

_DESCRIPTION: Final = """
An LLM router that works like a conveyor belt, with OpenAI's API.

Every address is also there without `/v1` and under `/api`. Every error has the body
`{"error": {"message", "type", "param", "code"}}` and the header `x-request-id`.
"""


class GatewayApp(FastAPI):
    """The FastAPI app behind the edge, with what its routes work on."""

    def __init__(self, parts: GatewayParts) -> None:
        super().__init__(
            title="InferLine",
            version=__version__,
            description=_DESCRIPTION,
            # They need a key, as every route does; see `_documents`.
            docs_url=None,
            openapi_url=None,
            redoc_url=None,
            # A redirect would lead to the host that the client names, and on AWS past the stage.
            redirect_slashes=False,
        )
        self.parts = parts
        self.access = _access(parts)
        self.rate_limiter = RateLimiter(parts.rate_counters, parts.settings, parts.clock)
        self.submitter = Submitter(parts)
        self.enrolments = Enrolments(parts)
        self.batch_jobs = BatchJobs(parts)
        self.transfers = Transfers(parts.settings.file_transfers_max)
        self.overview = overview.Overview(parts)
        self._edge = self._with_edge(inference.routes(PREFIXES))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope["app"] = self
        await self._edge(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, with the inference routes, which are not FastAPI's."""
        if not self.openapi_schema:
            document = super().openapi()
            needs_key = "client" in self.access.protected_roles
            schemes = [scheme.scheme_name for scheme in _schemes("client")] if needs_key else []
            own = inference_openapi.paths(PREFIXES[0], schemes)
            self.openapi_schema = {**document, "paths": {**own, **document["paths"]}}
        return self.openapi_schema

    def _with_edge(self, inference_routes: Sequence[Any]) -> ASGIApp:
        """Add the inference routes, and return the app inside the layers of the edge."""
        self.router.routes.extend(inference_routes)
        settings = self.parts.settings
        bytes_max = settings.body_bytes_max
        others = framework.bounded(super().__call__, bytes_max)
        first = inference.InferenceFirst(others, inference_routes)
        app: ASGIApp = RequestIds(RequestNormalizer(first, bytes_max), self.parts.closing)
        return cors.opened(app, settings.origins) if settings.origins else app


def create_app(parts: GatewayParts) -> GatewayApp:
    """Return the gateway's app, working on ``parts``."""
    app = GatewayApp(parts)
    app.include_router(_documents)
    for prefix in PREFIXES:
        documented = prefix == PREFIXES[0]
        for router, role in _ROUTERS:
            dependencies = [Depends(_CALLERS[role])] if role else []
            if role in app.access.protected_roles:
                dependencies += [Depends(scheme) for scheme in _schemes(role)]
            app.include_router(
                router, prefix=prefix, include_in_schema=documented, dependencies=dependencies
            )
    for kind, handler in framework.HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


@asynccontextmanager
async def open_gateway(
    settings: Settings,
    *,
    ledgers: Sequence[Ledger] = (),
    tracer: Tracer = NO_TRACER,
    deployed: bool = False,
) -> AsyncIterator[GatewayApp]:
    """
    Open the gateway's stores on AWS or an emulator, and yield its app.

    ``ledgers`` record each request besides the minute metrics, which are written in the background.
    ``deployed``: the stack has created the tables and the rights; none are created here.
    """
    async with open_gateway_stores(settings, deployed=deployed) as stores:
        parts = assemble(stores, settings, SystemClock(), ledgers=ledgers, tracer=tracer)
        await parts.catalogue.fleet()
        app = create_app(parts)
        # On Lambda nothing goes on after an answer: the sweep works on batches there.
        jobs = nullcontext() if deployed else app.batch_jobs.running()
        async with _background(parts, deployed=deployed), jobs:
            try:
                yield app
            finally:
                await app.rate_limiter.flush()


@asynccontextmanager
async def _background(parts: GatewayParts, *, deployed: bool) -> AsyncIterator[None]:
    """
    Write minute metrics, and aggregate usage where no sweep does, until the block ends.

    On Lambda the sweep also notes ages: so many processes would all write to one row.
    """
    minutes = parts.minute_ledger

    def note_waiting() -> None:
        now_ms = parts.store.now_ms()
        minutes.note_ages(now_ms, parts.waiting.oldest_ms(now_ms))

    flushing = (
        minutes.flushing(parts.clock, seconds=METRICS_SECONDS)
        if deployed
        else minutes.flushing(parts.clock, note_waiting, parts.settings.figures_seconds)
    )
    aggregator = UsageAggregator(usage=parts.usage, minutes=parts.minutes)
    async with flushing, aggregator.running(parts.clock) if parts.emulated else nullcontext():
        yield


def _access(parts: GatewayParts) -> Access:
    if parts.settings.access == "keys":
        return KeyAccess(Keyring(parts.keys, parts.tenants, parts.client.now_ms), parts.clock)
    return OpenAccess(parts.settings.provider_token)


#: The role of each router's callers, so that no route can be without a check. None: everybody.
#: The inference routes check the client themselves.
_ROUTERS: Final[Sequence[tuple[APIRouter, Role | None]]] = (
    (tasks.router, "client"),
    (control.client_router, "client"),
    (overview.router, "client"),
    (usage.router, "client"),
    (batches.router, "client"),
    (control.provider_router, "provider"),
    (files.router, "client"),
    (uploads.router, "client"),
    (keys.router, "admin"),
    (control.public_router, None),
)
_CALLERS: Final[Mapping[Role, Any]] = {"client": client, "provider": provider, "admin": admin}


def _schemes(role: Role) -> Iterator[Any]:
    """Yield the security schemes of a role for the documentation; `_CALLERS` check the keys."""
    form = f"{KEY_PREFIXES[role]}_…"
    yield HTTPBearer(scheme_name=role, bearerFormat=form, auto_error=False)
    for name in KEY_HEADERS[1:]:
        yield APIKeyHeader(name=name, scheme_name=f"{role}, in {name}", auto_error=False)


_documents: Final = APIRouter(dependencies=[Depends(client)], include_in_schema=False)


@_documents.get("/openapi.json")
async def _openapi(request: Request) -> dict[str, Any]:
    document: dict[str, Any] = request.app.openapi()
    return document


@_documents.get("/docs")
async def _docs(request: Request) -> Response:
    # Relative, because the gateway may be reached at a longer address.
    return get_swagger_ui_html(openapi_url="openapi.json", title=request.app.title)
