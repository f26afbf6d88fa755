"""One connection, with one response at a time."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol, cast

import httptools

from inferline.http.errors import HttpError, HungUp, NotHttp
from inferline.http.origin import Origin
from inferline.http.response import UNREAD_BYTES_MAX, Response

#: All header lines of a response together, bytes.
HEADER_BYTES_MAX: Final = 64 * 1024
#: Statuses whose responses have no body, whatever their headers say.
_BODILESS: Final = frozenset({204, 304})


class ConnectionPool(Protocol):
    """The owner of a connection."""

    def keep(self, connection: Connection) -> None:
        """Take back a connection whose response was read."""

    def forget(self, connection: Connection) -> None:
        """Remove a connection that has ended."""


class Connection(asyncio.Protocol):
    """A connection, which passes data from asyncio to httptools and from there to the response."""

    def __init__(self, pool: ConnectionPool, origin: Origin) -> None:
        self.origin = origin
        self.used_at = 0.0
        #: True if it leads to a proxy that passes requests on: some close it silently after one.
        self.is_passed_on = False
        self._pool = pool
        self._response: Response | None = None
        self._parser: Any = None
        self._headers: dict[str, str] = {}
        #: Bytes of the present response received before its headers were complete.
        self._head_bytes = 0
        #: True if the body ends where the connection does.
        self._until_close = False
        #: True if the response has ended and the connection has not.
        self._keeps = False
        self._is_paused = False

    def carry(self, response: Response, head: bytes, body: bytes) -> None:
        """Send a request; everything received from now on belongs to ``response``."""
        self._response = response
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._head_bytes = {}, 0
        self._until_close = self._keeps = False
        # In one write, up to a size from which copying costs more than a second one.
        if len(body) < UNREAD_BYTES_MAX:
            self._transport.write(head + body)
        else:
            self._transport.writelines([head, body])

    def go_on(self) -> None:
        """Resume reading: everything received so far has been consumed."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close it at once."""
        self._response = None
        self._transport.abort()

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of another family

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:  # Nobody asked.
            self._transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(NotHttp(str(error) or type(error).__name__))
        if self._keeps:
            self.go_on()
            self.used_at = asyncio.get_running_loop().time()
            self._pool.keep(self)
        elif not response.status:
            self._head_bytes += len(data)
            if self._head_bytes > HEADER_BYTES_MAX:
                self._fail(NotHttp(f"The headers have more than {HEADER_BYTES_MAX} bytes."))

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        response, self._response = self._response, None
        if response is None:
            return
        if self._until_close and exc is None:
            response.end()
        else:
            response.fail(HungUp(str(exc) if exc else "The connection was closed."))

    # Called by httptools.

    def on_message_begin(self) -> None:
        if self._response is None:  # A second response, which nobody asked for.
            self._keeps = False
            self._transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        response, status = self._response, self._parser.get_status_code()
        if response is None or status < 200:
            return
        response.headers = self._headers
        response.headed(status)
        is_measured = "content-length" in self._headers or "transfer-encoding" in self._headers
        if response.method == "HEAD" or status in _BODILESS:
            self._end(keeps=False)  # The parser would wait for a body.
        else:
            self._until_close = not is_measured

    def on_body(self, data: bytes) -> None:
        if self._response is not None and not self._response.came(data):
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            self._headers = {}
        elif self._response is not None:
            self._end(keeps=self._parser.should_keep_alive())

    def _end(self, *, keeps: bool) -> None:
        response, self._response = self._response, None
        assert response is not None
        response.end()
        self._keeps = keeps
        if not keeps:
            self._transport.abort()

    def _fail(self, error: HttpError) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.fail(error)
        self._transport.abort()
