"""
An HTTP client on asyncio's own protocols that notes when each token of an answer came, and costs
the machine under measurement next to nothing.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

#: The first bytes of a token's text, whichever way its JSON is spaced.
TOKEN = re.compile(rb'"content": ?"[^"]')
DONE = b"data: [DONE]"
#: Of an answer that went wrong, so many bytes are told.
TAIL_BYTES = 200
ANSWER_SECONDS_MAX = 300.0

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


class Broken(Exception):
    """The connection ended before the answer did, or what came is no HTTP."""


@dataclass(slots=True)
class Answer:
    """One answer as its client saw it. Times are seconds of one clock."""

    sent: float
    status: int = 0
    #: When its first token came, or its head if it is not streamed.
    first: float = 0.0
    ended: float = 0.0
    #: Whether its stream said that it is complete.
    done: bool = False
    tokens: int = 0
    #: Bytes of the body.
    received: int = 0
    #: Seconds between two tokens that came one after the other, as far as they came apart.
    gaps: list[float] = field(default_factory=list)
    #: How many tokens came at once: how often.
    bursts: Counter[int] = field(default_factory=Counter)
    tail: bytes = b""


class Connection(asyncio.Protocol):
    """One connection, which asks one thing at a time."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._future: asyncio.Future[None] | None = None
        self._lost = False

    @classmethod
    async def to(cls, url: str) -> Connection:
        """Connect to the host of a URL."""
        parts = urlsplit(url)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, parts.hostname, parts.port)
        return connection

    @property
    def is_open(self) -> bool:
        """Return whether it can be asked something more."""
        return not self._lost

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    async def ask(self, request: bytes, seconds_max: float = ANSWER_SECONDS_MAX) -> Answer:
        """Return the whole answer to a request. Raises Broken, OSError and TimeoutError."""
        future = self.begin(request)
        async with asyncio.timeout(seconds_max):
            await future
        return self.answer

    def begin(self, request: bytes) -> asyncio.Future[None]:
        """Ask; ``answer`` fills as it comes. The future is done at its end, or has Broken."""
        self._future = asyncio.get_running_loop().create_future()
        self._raw, self._head, self._event = b"", b"", b""
        #: Bytes of the body, or of its chunk with the line end behind it, that are yet to come.
        self._left = 0
        self._is_chunked = False
        self.answer = Answer(self._now())
        #: Set when its first token has come.
        self.begun = asyncio.Event()
        if self._lost:
            self._end(Broken("the connection was closed"))
        else:
            self._transport.write(request)
        return self._future

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of it.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._end(Broken(f"the connection ended: {error or 'closed'}"))

    def data_received(self, data: bytes) -> None:
        if self._future is None or self._future.done():
            return
        now = self._now()
        try:
            if not self._head:
                self._raw += data
                # A line end may be left over from the answer before.
                head, blank, rest = self._raw.lstrip(b"\r\n").partition(b"\r\n\r\n")
                if not blank:
                    return
                self._begin_body(head, now)
                self._raw, data = b"", rest
            if self._is_chunked:
                self._see(self._dechunked(data), now)
            else:
                self._left -= len(data)
                self._see(data, now)
        except (ValueError, IndexError) as error:
            self._end(Broken(f"what came is no HTTP: {error}"))
            return
        if not self._is_chunked and self._left <= 0:
            self._finish(now)

    def _begin_body(self, head: bytes, now: float) -> None:
        self._head, self.answer.status = head, int(head.split(b" ", 2)[1])
        self._is_chunked = _CHUNKED.search(head) is not None
        self._is_stream = b"text/event-stream" in head
        if not self._is_stream:
            self.answer.first = now
        if not self._is_chunked:
            self._left = int(length[1]) if (length := _LENGTH.search(head)) else 0

    def _dechunked(self, data: bytes) -> bytes:
        """Return the payload in some bytes of a chunked body, of which the last chunk is empty."""
        data, at, pieces = self._raw + data, 0, []
        self._raw = b""
        while at < len(data):
            if not self._left:
                end = data.find(b"\r\n", at)
                if end < 0:
                    break
                size = int(data[at:end].partition(b";")[0], 16)
                at = end + 2
                if not size:
                    self._is_chunked = False
                    return b"".join(pieces)
                self._left = size + 2
            piece = data[at : at + self._left]
            pieces.append(piece[: max(0, self._left - 2)])
            self._left -= len(piece)
            at += len(piece)
        self._raw = data[at:]
        return b"".join(pieces)

    def _see(self, body: bytes, now: float) -> None:
        """Note the tokens in a piece of the body that has just come."""
        answer = self.answer
        answer.received += len(body)
        if not self._is_stream:
            answer.tail += body
            answer.tokens += len(TOKEN.findall(body))
            return
        events, blank, self._event = (self._event + body).rpartition(b"\n\n")
        if not blank:
            return
        if tokens := len(TOKEN.findall(events)):
            if not answer.tokens:
                answer.first = now
                self.begun.set()
            else:
                answer.gaps.append(now - self._last)
            self._last = now
            answer.tokens += tokens
            answer.bursts[tokens] += 1
        answer.done = answer.done or DONE in events
        answer.tail = events[-TAIL_BYTES:]

    def _finish(self, now: float) -> None:
        self.answer.ended = now
        self._end(None)

    def _end(self, error: Broken | None) -> None:
        if self._future is None or self._future.done():
            return
        if error is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(error)


def post(url: str, body: bytes, headers: Mapping[str, str] = {}) -> bytes:
    """Return a request that posts JSON to a URL, with further headers."""
    parts = urlsplit(url)
    more = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\naccept: */*\r\n"
        f"content-type: application/json\r\n{more}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
