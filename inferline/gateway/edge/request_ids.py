"""The outermost layer of the gateway: request ids, limit headers and unexpected errors."""

from __future__ import annotations

import asyncio
import logging
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inferline import logs
from inferline.errors import GatewayStopping, InferLineError
from inferline.gateway.edge.retry_advice import advised
from inferline.gateway.errors import error_response

log = logging.getLogger(__name__)


class RequestIds:
    """
    Gives every request an id, which is also its task's, and answers what failed unexpectedly.

    Every response bears the id and the headers of its limits; an unexpected error is a 500 with
    the body of any other error.
    """

    def __init__(self, app: ASGIApp, closing: asyncio.Event) -> None:
        """Wrap ``app``; ``closing`` is set when this process ends."""
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
                # The id of a repeat is that of the earlier task.
                headers = {**state.get("headers", {}), "x-request-id": state["request_id"]}
                added = [(name.encode(), value.encode()) for name, value in headers.items()]
                message["headers"] = [*message["headers"], *added]
                if message["status"] >= 400:
                    message["headers"] = advised(message["status"], message["headers"])
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        # The last place where it can be answered.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            answer = self._answer_to(error, request_id)
            if not started:
                await error_response(answer)(scope, receive, send_with_id)

    def _answer_to(self, error: BaseException, request_id: str) -> InferLineError:
        if not isinstance(error, asyncio.CancelledError):
            # The error's message may hold part of a prompt, so the log has only its place.
            log.error("%s failed unexpectedly: %s", request_id, logs.where(error))
            return InferLineError()
        if not self._closing.is_set():
            raise error
        return GatewayStopping()  # The time for requests under way is over.
