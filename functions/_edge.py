"""The outermost layer on AWS: takes the caller and the time left from API Gateway and Lambda."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from functions._wiring import MARGIN_SECONDS, Opened
from inferline.accounts.caller import Caller
from inferline.errors import Unavailable
from inferline.gateway.errors import error_response

#: API Gateway waits 29 s for an answer that is not streamed. A new process takes some of them
#: before its first line runs, and the gateway some to notice that a task is late.
BUFFERED_SECONDS_MAX: Final = 24.0

#: Lambda takes 6 MB; a form comes in base64, and with all that API Gateway says of the request.
BODY_BYTES_MAX: Final = 4_400_000

REQUEST_CONTEXT: Final = b"x-amzn-request-context"
LAMBDA_CONTEXT: Final = b"x-amzn-lambda-context"


@dataclass(frozen=True, slots=True)
class EdgeContext:
    """A request's context, as AWS sets it and no client can."""

    #: API Gateway's context, empty where there is none.
    request: Mapping[str, Any]
    #: Seconds that the function may run from now.
    seconds_left: float


def from_mangum(scope: Scope) -> EdgeContext:
    """Read the event and the function's context."""
    event, context = scope["aws.event"], scope["aws.context"]
    left = context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS
    return EdgeContext(event.get("requestContext") or {}, min(left, BUFFERED_SECONDS_MAX))


def from_adapter(scope: Scope, wall: Callable[[], float] = time.time) -> EdgeContext:
    """
    Read the Lambda Web Adapter's headers.

    It sets them on each request, in place of any that the client sent. Without a deadline the
    gateway's own holds.
    """
    headers = dict(scope["headers"])
    deadline_ms = _document(headers.get(LAMBDA_CONTEXT)).get("deadline", inf)
    left = deadline_ms / 1000 - wall() - MARGIN_SECONDS
    return EdgeContext(_document(headers.get(REQUEST_CONTEXT)), left)


def caller(request: Mapping[str, Any]) -> Caller | None:
    """Return the caller that the authorizer found; None where it was not asked."""
    return Caller.from_context(request.get("authorizer") or {})


class AtEdge:
    """
    Fills ``scope["state"]`` with ``caller``, ``seconds_max``, ``takes_packed``, ``body_bytes_max``
    and ``redirects_files``.

    The app is opened with the first request, or before it where the server says so: under uvicorn
    that is before Lambda counts the function as started.
    """

    def __init__(self, app: Opened[ASGIApp], read: Callable[[Scope], EdgeContext]) -> None:
        self._app = app
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        context = self._read(scope)
        state = scope.setdefault("state", {})
        state["seconds_max"] = max(0.0, context.seconds_left)
        # API Gateway reads a body as text, which breaks compressed bodies.
        state["takes_packed"] = False
        state["body_bytes_max"] = BODY_BYTES_MAX
        # API Gateway would pass bytes on in base64, and no more of them than of a body.
        state["redirects_files"] = True
        if (known := caller(context.request)) is not None:
            state["caller"] = known
        scope["headers"] = [
            (name, value)
            for name, value in scope["headers"]
            if name not in (REQUEST_CONTEXT, LAMBDA_CONTEXT)
        ]
        try:
            app = await self._app()
        except Unavailable as error:
            await error_response(error)(scope, receive, send)
            return
        await app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "lifespan.shutdown":
            assert message["type"] == "lifespan.startup"
            with suppress(Unavailable):  # It may be back for the first request.
                await self._app()
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})


def _document(header: bytes | None) -> dict[str, Any]:
    document = json.loads(header) if header else {}
    return document if isinstance(document, dict) else {}
