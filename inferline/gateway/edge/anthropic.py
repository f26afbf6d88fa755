"""
What Anthropic's SDKs read of the answers at its addresses, besides what OpenAI's read: errors of
its shape, and the request's id in a header of its own.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from inferline.errors import BackendRefused
from inferline.streams.reported_error import anthropic_type

#: What frameworks say of an address that a server does not have, in lower case.
_NOT_FOUND: Final = frozenset({"", "not found", "file not found"})
#: Of a gzip stream, or of zlib's.
_ANY_WINDOW: Final = 47


def is_anthropics(path: str) -> bool:
    """Return whether an address is of the Messages API."""
    return path.endswith("/messages") or "/messages/" in path


def error_body(status: int, body: bytes, path: str, request_id: str = "") -> bytes:
    """
    Return an error in Anthropic's shape, with the fields that it had; one that has the shape as it
    is.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = body.decode(errors="replace")
    error = _error_of(document)
    if isinstance(document, dict) and document.get("type") == "error" and error.get("message"):
        return body
    message = str(error.get("message") or error.get("detail") or "")
    is_wordless = message.lower() in _NOT_FOUND or error.get("code") == BackendRefused.code
    if status == 404 and is_wordless:
        message = f"The LLM server of this model has nothing at {path}."
    error |= {
        "type": anthropic_type(status),
        "message": message or f"The LLM server said {status}.",
    }
    translated = {"type": "error", "error": error}
    return json.dumps(translated | ({"request_id": request_id} if request_id else {})).encode()


def _error_of(document: Any) -> dict[str, Any]:
    """Return the fields of an error, in whatever form a server has told it."""
    error = document.get("error", document) if isinstance(document, dict) else document
    return dict(error) if isinstance(error, dict) else {"message": error}


class AnthropicSend:
    """
    A `Send` for its addresses and its SDKs. What is no error passes, as it comes, and so does what
    a backend has said at an address of OpenAI's.
    """

    def __init__(self, send: Send, path: str, state: Mapping[str, Any]) -> None:
        """``state`` is the request's, whose id may change until its answer begins."""
        self._send = send
        self._path = path
        self._state = state
        #: The start of an error, until all of its body is there.
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        """Send a message of the response."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message["headers"]))
            headers["request-id"] = self._state["request_id"]
            message = {**message, "headers": headers.raw}
            is_json = headers.get("content-type", "").startswith("application/json")
            is_ours = is_anthropics(self._path) or "x-inferline-attempt" not in headers
            if message["status"] >= 400 and is_json and is_ours:
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_error(self._start)
            return
        await self._send(message)

    async def _send_error(self, start: Message) -> None:
        headers = MutableHeaders(raw=start["headers"])
        body = self._body
        if headers.get("content-encoding") == "gzip":
            del headers["content-encoding"]
            body = zlib.decompress(body, _ANY_WINDOW)
        body = error_body(start["status"], body, self._path, self._state["request_id"])
        headers["content-length"] = str(len(body))
        self._start = None
        await self._send({**start, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})
