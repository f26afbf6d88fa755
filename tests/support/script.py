"""How the scripted LLM server behaves towards one request: when it speaks, and how it fails."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from tests.support import answers
from tests.support.answers import Answer, Json


@dataclass(frozen=True, kw_only=True)
class Script:
    """
    Script of one answer; a request's own `x_script` replaces any field.

    Fields named `after` count tokens: 0 means at the first token's time, but instead of it.
    """

    #: Seconds until the first token, and between tokens.
    first: float = 0.05
    interval: float = 0.04
    tokens: int = 16
    #: Answer at once with this status and `body`, or with an OpenAI error; do no work. A `body`
    #: alone is sent with status 200, text as it is and everything else as JSON.
    status: int | None = None
    #: Misbehave only in so many calls with this very request; the ones after them succeed.
    times: int | None = None
    #: Tells requests apart that are otherwise the same.
    key: str = ""
    retry_after: float | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = "application/json"
    #: Never answer.
    hang: bool = False
    #: Reset the TCP connection.
    abort_after_tokens: int | None = None
    #: End cleanly, without what ends an answer.
    eof_after_tokens: int | None = None
    #: Send an error as an event, then [DONE], as vLLM does.
    error_event_after: int | None = None
    #: The error as it is sent; None: as OpenAI writes it.
    error_event: str | None = None
    #: Say [DONE] and nothing else, as llama-cpp-python does.
    done_after_tokens: int | None = None
    #: Say in each event but the last that its choice ends for no reason.
    empty_reasons: bool = False
    stall_after_tokens: int | None = None
    stall_seconds: float = 3600.0
    #: While it hangs or stalls its metrics say that it works on the request, as those of a server
    #: do that holds back what it writes; else it has lost the request.
    works: bool = False
    #: Leave out the event that ends the answer.
    no_done: bool = False
    #: Send an event that is not JSON after the first token.
    malformed_event: bool = False
    #: Text of several bytes a character, sent byte by byte.
    emoji: bool = False
    crlf: bool = False
    comments: bool = False

    def changed(self, fields: Json) -> Script:
        """Return the script that a request asks for. Raises TypeError for an unknown field."""
        return replace(self, **fields)

    def behaving(self) -> Script:
        """Return the script without what goes wrong in it."""
        good = {name: getattr(_GOOD, name) for name in _FAULTS}
        return replace(self, **good)


_GOOD = Script()
_FAULTS = (
    *("status", "body", "hang", "abort_after_tokens", "eof_after_tokens", "error_event_after"),
    *("stall_after_tokens", "no_done", "malformed_event", "done_after_tokens", "empty_reasons"),
)


class ScriptedEnd(Exception):
    """The script ends the stream here."""


class ScriptedReset(Exception):
    """The script has reset the connection."""


def error(status: int, message: str, code: str) -> web.Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return web.json_response({"error": error}, status=status)


def scripted(script: Script, status: int) -> web.Response:
    headers = dict(script.headers)
    if script.retry_after is not None:
        headers["Retry-After"] = f"{script.retry_after:g}"
    if script.body is None:
        response = error(status, f"scripted {status}", "scripted")
        response.headers.update(headers)
        return response
    text = script.body if isinstance(script.body, str) else json.dumps(script.body)
    return web.Response(text=text, status=status, headers=headers, content_type=script.content_type)


async def wait_until(moment: float) -> None:
    """Sleep to a moment of the loop's clock, so that late tokens do not delay later ones."""
    seconds = moment - asyncio.get_running_loop().time()
    if seconds > 0:
        await asyncio.sleep(seconds)


async def stream(
    request: web.Request, answer: Answer, script: Script, start: float
) -> web.StreamResponse:
    response = web.StreamResponse(headers=script.headers)
    response.content_type = "text/event-stream"
    response.charset = "utf-8"
    await response.prepare(request)
    try:
        last = len(answer.steps) - 1
        for at, step in enumerate(answer.steps):
            await wait_until(start + script.first + script.interval * at)
            await _misbehave(request, response, script, at)
            head = b"".join(answer.head) if at == 0 else b""
            broken = b'data: {"choices": [{"delta\n\n' if script.malformed_event and not at else b""
            tail = _tail(answer, script) if at == last else b""
            await _send(response, head + step + broken + tail, script)
    except ScriptedReset:
        return response
    except ScriptedEnd:
        pass
    await response.write_eof()
    return response


def _tail(answer: Answer, script: Script) -> bytes:
    return b"".join(answer.tail[:-1] if script.no_done else answer.tail)


async def _misbehave(
    request: web.Request, response: web.StreamResponse, script: Script, at: int
) -> None:
    if at == script.abort_after_tokens:
        reset(request)
        raise ScriptedReset
    if at == script.eof_after_tokens:
        raise ScriptedEnd
    if at == script.stall_after_tokens:
        await asyncio.sleep(script.stall_seconds)
    if at == script.done_after_tokens:
        await response.write(b"data: [DONE]\n\n")
        raise ScriptedEnd
    if at == script.error_event_after:
        error = {"message": "scripted failure", "type": "server_error", "code": 500, "param": None}
        sent = answers.event({"error": error})
        if script.error_event is not None:
            sent = script.error_event.encode()
        await response.write(sent + b"data: [DONE]\n\n")
        raise ScriptedEnd


def reset(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _send(response: web.StreamResponse, data: bytes, script: Script) -> None:
    if script.empty_reasons:
        data = data.replace(b'"finish_reason":null', b'"finish_reason":""')
    if script.comments:
        data = b": ping\n\n" + data.replace(b"\n\n", b"\n\n: ping\n\n")
    if script.crlf:
        data = data.replace(b"\n", b"\r\n")
    if not script.emoji:
        await response.write(data)
        return
    for at in range(len(data)):
        await response.write(data[at : at + 1])
        await asyncio.sleep(0)
