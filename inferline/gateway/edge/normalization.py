"""The front: what of a request's form is put right before anybody looks for its route."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inferline.errors import UpgradeRefused
from inferline.gateway.edge.anthropic import AnthropicSend, is_anthropics
from inferline.gateway.edge.decompression import encoding_of, unpacked
from inferline.gateway.errors import error_response

#: What may follow here is a name, which may have slashes of its own.
_NAMED: Final = re.compile(r"(.*/(?:models|providers))/+(.*[^/].*)", re.DOTALL)
#: The headers that matter here.
_READ: Final = frozenset({b"anthropic-version", b"content-encoding", b"upgrade"})
#: Whose files stand at an address with a slash at its end.
_PAGE: Final = "/dashboard"


class RequestNormalizer:
    """
    ``app`` behind addresses with slashes too many, HEAD wherever GET is, compressed bodies, and
    Anthropic's SDKs. It costs a few comparisons for who wants none of it.
    """

    def __init__(self, app: ASGIApp, body_bytes_max: int) -> None:
        self._app = app
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if path.endswith("/") or "//" in path:
            path = tidy(path)
            scope = {**scope, "path": path}
        told = _together(header for header in scope["headers"] if header[0] in _READ)
        if scope["method"] == "HEAD":
            scope, send = _as_get(scope), _without_body(send)
        if is_anthropics(path) or b"anthropic-version" in told:
            send = AnthropicSend(send, path, scope["state"])
        if told:
            if _asks_for_websocket(scope, told):
                await error_response(UpgradeRefused())(scope, receive, send)
                return
            scope, receive = self._unpacked(scope, receive, told)
        await self._app(scope, receive, send)

    def _unpacked(
        self, scope: Scope, receive: Receive, told: Mapping[bytes, bytes]
    ) -> tuple[Scope, Receive]:
        """The request as it would be without its encoding; only of a POST anybody reads a body."""
        encoding = encoding_of(told.get(b"content-encoding", b"").decode("latin-1"))
        if not encoding or scope["method"] != "POST":
            return scope, receive
        if not scope["state"].get("takes_packed", True):
            encoding = f"{encoding}, which does not pass"
        described = (b"content-encoding", b"content-length")
        headers = [header for header in scope["headers"] if header[0] not in described]
        receive = unpacked(receive, encoding, self._body_bytes_max)
        return {**scope, "headers": headers}, receive


def tidy(path: str) -> str:
    """An address with one slash between its parts and none at its end; names keep theirs."""
    named = _NAMED.fullmatch(path)
    before, name = (named[1], f"/{named[2].rstrip('/')}") if named else (path, "")
    tidied = "".join(f"/{part}" for part in before.split("/") if part) + name
    return f"{_PAGE}/" if tidied == _PAGE and path.endswith("/") else tidied or "/"


def _together(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers by name; one that comes on several lines is the list of them."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = b", ".join((found[name], value)) if name in found else value
    return found


def _as_get(scope: Scope) -> Scope:
    """A look at what a GET would be answered; who would do something for it can see that."""
    scope["state"]["is_head"] = True
    return {**scope, "method": "GET"}


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head


def _asks_for_websocket(scope: Scope, told: Mapping[bytes, bytes]) -> bool:
    """Whether it would speak of responses by WebSocket, and asks by POST once it hears of none."""
    is_read = scope["method"] == "GET" and scope["path"].endswith("/responses")
    return is_read and b"websocket" in told.get(b"upgrade", b"").lower()
