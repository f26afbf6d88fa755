"""Normalization: corrects a request's form before its route is looked up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inferline.errors import UpgradeRefused
from inferline.gateway.edge.anthropic import AnthropicSend, is_anthropics
from inferline.gateway.edge.decompression import encoding_of, unpacked
from inferline.gateway.errors import error_response

#: The addresses that end in a name, which may have slashes of its own.
_NAMED: Final = re.compile(r"(.*/(?:models|providers))/+(.*[^/].*)", re.DOTALL)
#: The headers that are read here.
_READ: Final = frozenset({b"anthropic-version", b"content-encoding", b"upgrade"})
#: The dashboard, whose address ends in a slash.
_PAGE: Final = "/dashboard"


class RequestNormalizer:
    """
    A layer for addresses with extra slashes, HEAD requests, compressed bodies and Anthropic's SDKs.

    It costs other requests a few comparisons.
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
        headers = _together(header for header in scope["headers"] if header[0] in _READ)
        if scope["method"] == "HEAD":
            scope, send = _as_get(scope), _without_body(send)
        if is_anthropics(path) or b"anthropic-version" in headers:
            send = AnthropicSend(send, path, scope["state"])
        if headers:
            if _asks_for_websocket(scope, headers):
                await error_response(UpgradeRefused())(scope, receive, send)
                return
            scope, receive = self._unpacked(scope, receive, headers)
        await self._app(scope, receive, send)

    def _unpacked(
        self, scope: Scope, receive: Receive, headers: Mapping[bytes, bytes]
    ) -> tuple[Scope, Receive]:
        """Return the request without its encoding; only a POST's body is ever read."""
        encoding = encoding_of(headers.get(b"content-encoding", b"").decode("latin-1"))
        if not encoding or scope["method"] != "POST":
            return scope, receive
        if not scope["state"].get("takes_packed", True):
            encoding = f"{encoding}, which does not pass"
        described = (b"content-encoding", b"content-length")
        others = [header for header in scope["headers"] if header[0] not in described]
        receive = unpacked(receive, encoding, self._body_bytes_max)
        return {**scope, "headers": others}, receive


def tidy(path: str) -> str:
    """Return an address with single slashes and none at its end; names keep theirs."""
    named = _NAMED.fullmatch(path)
    before, name = (named[1], f"/{named[2].rstrip('/')}") if named else (path, "")
    tidied = "".join(f"/{part}" for part in before.split("/") if part) + name
    return f"{_PAGE}/" if tidied == _PAGE and path.endswith("/") else tidied or "/"


def _together(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers by name; one on several lines is joined by commas."""
    joined: dict[bytes, bytes] = {}
    for name, value in headers:
        joined[name] = b", ".join((joined[name], value)) if name in joined else value
    return joined


def _as_get(scope: Scope) -> Scope:
    """Make a HEAD request a GET; ``is_head`` marks it, so that it changes nothing."""
    scope["state"]["is_head"] = True
    return {**scope, "method": "GET"}


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head


def _asks_for_websocket(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Tell if a client tries the Responses API by WebSocket; it uses POST once refused."""
    is_read = scope["method"] == "GET" and scope["path"].endswith("/responses")
    return is_read and b"websocket" in headers.get(b"upgrade", b"").lower()
