"""Sends an answer to its client and records its end."""

from __future__ import annotations

import logging
from typing import Final

from starlette.types import Send

from inferline.errors import InferLineError
from inferline.gateway.answer.reader import backends_headers
from inferline.gateway.answer.reads import AnswerReads
from inferline.gateway.answer.request_log import RequestLog
from inferline.gateway.answer.stages.events import error_event
from inferline.gateway.errors import error_response
from inferline.streams.endings import said_all
from inferline.tasks.task import AnswerHead, Task
from inferline.validation.output_rules import is_media

log = logging.getLogger(__name__)

OK: Final = 200
EVENT_STREAM: Final = "text/event-stream"


class Sender:
    """The last stage: the response's head, its body, and an error in the form that still fits."""

    def __init__(
        self,
        reads: AnswerReads,
        task: Task,
        request_log: RequestLog,
        *,
        streamed: bool,
        joined: bool,
    ) -> None:
        #: Sends one ASGI message; compressed or not.
        self.send: Send = _unset
        #: True from the response's head on.
        self.started = False
        #: True once the last piece has been sent or is being sent.
        self.over = False
        self._reads = reads
        self._path = task.path
        self._request_log = request_log
        self._streamed = streamed
        self._joined = joined
        self._last = b""

    @property
    def flows(self) -> bool:
        """Return True while a stream has begun and not ended, so that it can report an error."""
        return self.started and self._streamed and not self.over

    async def body(self, body: bytes, *, more: bool) -> None:
        """Send some of the backend's answer."""
        head = self._reads.reader.head
        assert head is not None  # A stream's came first, any other's at its end.
        self._request_log.sends(body)
        self._last = body
        self.over = not more
        if not more:  # Before the last piece: once that is out, a Lambda may be frozen.
            self.ended(head.status, f"backend_{head.status}" if head.status >= 400 else "")
        if not self.started:
            await self.start(head, None if more else len(body))
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def start(self, head: AnswerHead, length: int | None = None) -> None:
        """Send the response's head; ``length`` is None for a streamed body."""
        self.started = True
        reader = self._reads.reader
        headers = headers_of(head, reader.attempt, length)
        if head.status >= 400 and reader.task is not None:
            headers |= backends_headers(reader.task)
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": head.status, "headers": raw})

    async def fail(self, error: InferLineError, unsent: bytes) -> None:
        """
        Send ``error``: as the HTTP response, or in the stream when that has begun.

        ``unsent`` are the bytes of the stream held back until now.
        """
        if self.started and not self._streamed:
            self.break_off(error.code)
            return
        if unsent:
            await self.body(unsent, more=True)
        self.over = True
        if self.started and said_all(self._path, self._last):
            self.ended(OK, "")
            await self.send({"type": "http.response.body", "body": b""})
            return
        self.ended(OK if self.started else error.status, error.code)
        if self.started:
            # An event that was cut off would swallow the error event.
            apart = b"" if self._last[-1:] in b"\n" else b"\n\n"
            event = apart + error_event(self._path, error)
            await self.send({"type": "http.response.body", "body": event})
            return
        response = error_response(error)
        start = {"status": response.status_code, "headers": response.raw_headers}
        await self.send({"type": "http.response.start", **start})
        await self.send({"type": "http.response.body", "body": response.body})

    def break_off(self, code: str) -> None:
        """
        End without the rest. An answer that began as 200 only to stay open can't report a failure
        any more, and a body with an error in it would pass for a success.
        """
        log.warning("an answer kept open was broken off", extra={"code": code})
        self.ended(OK, code)

    def ended(self, status: int, code: str) -> None:
        """Record the end; only the first call counts."""
        reader, latest = self._reads.reader, self._reads.task
        # An answer with several readers was generated once: a reader that joined counts no tokens.
        usage = {} if self._joined else latest.usage
        self._request_log.ended(
            status, code, head=reader.head, attempt=reader.attempt, latest=latest, usage=usage
        )


def headers_of(head: AnswerHead, attempt: int, length: int | None) -> dict[str, str]:
    """Return the headers of a backend's answer; ``length`` is None for a streamed body."""
    headers = {
        "content-type": head.content_type or "application/json",
        "x-inferline-attempt": str(attempt),
        "x-inferline-queue-ms": str(head.queue_ms),
    }
    if is_media(head.content_type):
        headers["x-content-type-options"] = "nosniff"
    if head.provider:
        headers["x-inferline-provider"] = head.provider
    if length is not None:
        headers["content-length"] = str(length)
    elif head.content_type.startswith(EVENT_STREAM):
        headers |= {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return headers


async def _unset(_: object) -> None:
    raise AssertionError("the answer is not being sent yet")
