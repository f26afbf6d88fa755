"""The gateway's app for whoever serves it: uvicorn, or a handler of API Gateway's events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions import _edge
from functions._metrics import EmfLedger
from functions._wiring import Opened, settings
from inferline import logs
from inferline.gateway.app import METRICS_SECONDS, open_gateway
from inferline.usage.minutes import MinuteLedger

log = logging.getLogger(__name__)

#: A function ends itself five seconds before Lambda ends it, and twice something is to be done.
DONE_SECONDS_MAX: Final = 2.0


@asynccontextmanager
async def _gateway() -> AsyncIterator[ASGIApp]:
    async with open_gateway(settings, ledgers=[EmfLedger()], deployed=True) as gateway:
        app = before_its_end(gateway, gateway.rate_limiter.flush)
        yield written(app, gateway.parts.minute_ledger)


def before_its_end(app: ASGIApp, do: Callable[[], Awaitable[None]]) -> ASGIApp:
    """
    Wrap ``app`` to ``do`` something before an answer ends, because Lambda may freeze it then.

    The end of an answer waits for it at most `DONE_SECONDS_MAX`, and is sent even if it fails:
    without it a client would take a cut stream for a whole answer.
    """
    going_on = set[asyncio.Future[None]]()

    async def done() -> None:
        doing = asyncio.ensure_future(do())
        going_on.add(doing)
        doing.add_done_callback(going_on.discard)
        finished, _ = await asyncio.wait({doing}, timeout=DONE_SECONDS_MAX)
        if finished and (error := doing.exception()):
            log.error("what is done before an answer's end failed: %s", logs.where(error))

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_after(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await done()
            await send(message)

        await app(scope, receive, send_after)

    return serve


def written(
    app: ASGIApp, minutes: MinuteLedger, monotonic: Callable[[], float] = time.monotonic
) -> ASGIApp:
    """
    Wrap ``app`` to write its minute metrics before an answer ends.

    Each write costs, so a busy process writes once in `METRICS_SECONDS`: the metrics of its last
    answers may be lost when it is thrown away.
    """
    written_at = -inf

    async def write() -> None:
        nonlocal written_at
        if monotonic() - written_at >= METRICS_SECONDS and await minutes.flush():
            written_at = monotonic()

    return before_its_end(app, write)


def streamed() -> ASGIApp:
    """Return the app for uvicorn behind the Lambda Web Adapter; run.sh starts it."""
    return _edge.AtEdge(Opened(_gateway), _edge.from_adapter)


def buffered() -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """Return the app as a handler of events, which sends whole answers."""
    from mangum import Mangum

    from functions._tracing import traced

    app = _edge.AtEdge(Opened(_gateway).at_start(), _edge.from_mangum)
    answer = Mangum(app, lifespan="off")

    # The tracer asks for a function's name, and a Mangum has none.
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        return answer(event, context)

    return traced(handler)
