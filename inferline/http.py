"""
HTTP/1.1 as a client: the little of it that calls to AWS and to an LLM server need, on httptools.

A call takes a third of the CPU that a general client takes, and calls are most of what a gateway
and a provider do. There are no redirects, proxies, cookies, compression or repeats: what is sent is
what was given, once.

    HttpError
    ├── CannotConnect     nobody listens there
    │   └── Untrusted     whoever listens is not who the address names
    ├── ConnectTimeout    nobody answered in time whether anybody listens
    ├── Silence           the connection is there, and nothing has come for too long
    ├── HungUp            the connection ended before the response did
    └── NotHttp           what came is no HTTP response, or one beyond all bounds
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self, cast
from urllib.parse import urlsplit

import httptools

#: What of a response may lie here unread, bytes; then its sender has to wait.
UNREAD_BYTES_MAX: Final = 256 * 1024
#: All header lines of a response together, bytes.
HEADER_BYTES_MAX: Final = 64 * 1024
#: Statuses whose responses have no body, whatever their headers say.
_BODILESS: Final = frozenset({204, 304})


class HttpError(OSError):
    """A request that got no whole response."""


class CannotConnect(HttpError):
    """Nobody listens there."""


class Untrusted(CannotConnect):
    """Who listens there can't prove to be whom the address names."""


class ConnectTimeout(HttpError):
    """Whether anybody listens there was not to be learned in time."""


class Silence(HttpError):
    """Nothing has come for too long."""


class HungUp(HttpError):
    """The connection ended before the response did."""


class NotHttp(HttpError):
    """What came is no response, or its headers have no end."""


class Origin(NamedTuple):
    """Whom an address names: what a connection can be kept for."""

    is_tls: bool
    host: str
    port: int
    #: As the Host header has it: without a port that goes without saying.
    authority: str


@lru_cache(maxsize=256)
def place(url: str) -> tuple[Origin, str]:
    """The origin of an http or https address, and the path there with its query."""
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    port = parts.port or usual
    authority = host if port == usual else f"{host}:{port}"
    origin = Origin(parts.scheme == "https", parts.hostname or "", port, authority)
    return origin, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


class Connections:
    """
    Sends requests, over connections that are kept where the other side keeps them too.

    For one event loop; use it as a context manager. ``idle_seconds`` is how long a connection may
    lie unused before another request is trusted to it; 0 keeps none.
    """

    def __init__(self, *, connect_seconds: float, idle_seconds: float) -> None:
        self.connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        #: Those that wait for a request, the one used last at the end.
        self._idle: dict[Origin, deque[_Connection]] = {}
        self._all: set[_Connection] = set()
        self._tls: ssl.SSLContext | None = None
        self._is_open = False

    async def __aenter__(self) -> Self:
        """Open; nothing is connected before the first request."""
        self._is_open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close every connection, those in use as well."""
        self._is_open = False
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        silence_seconds: float,
    ) -> Response:
        """
        Send a request and return the response once its headers are here. Raises HttpError.

        ``url`` goes out as it is written. The response is to be read to its end, or closed.
        """
        if not self._is_open:
            raise RuntimeError("The connections are not open: use `async with`.")
        origin, path = place(url)
        head = _head(method, path, origin, headers, len(body))
        connection = self._kept(origin) or await self._connected(origin)
        response = Response(connection, method, silence_seconds)
        connection.carry(response, head, body)
        await response.begun()
        return response

    def keep(self, connection: _Connection) -> None:
        """Take back a connection whose response was read."""
        if not self._is_open or not self._idle_seconds:
            connection.abort()
            return
        idle = self._idle.setdefault(connection.origin, deque())
        idle.append(connection)
        # What has lain longest goes first, so that a pool that was once large becomes small again.
        while idle and not self._is_fresh(idle[0]):
            idle.popleft().abort()

    def forget(self, connection: _Connection) -> None:
        """Hear that a connection has ended."""
        self._all.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)

    def _kept(self, origin: Origin) -> _Connection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if self._is_fresh(connection):
                return connection
            connection.abort()
        return None

    def _is_fresh(self, connection: _Connection) -> bool:
        age = asyncio.get_running_loop().time() - connection.used_at
        return age < self._idle_seconds

    async def _connected(self, origin: Origin) -> _Connection:
        loop = asyncio.get_running_loop()
        tls = self._context() if origin.is_tls else None
        try:
            async with asyncio.timeout(self.connect_seconds):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, origin), origin.host, origin.port, ssl=tls
                )
        except TimeoutError as error:
            raise ConnectTimeout(f"No connection in {self.connect_seconds:g} s.") from error
        except ssl.SSLError as error:
            raise Untrusted(str(error)) from error
        except OSError as error:
            raise CannotConnect(str(error)) from error
        self._all.add(connection)
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


def _head(method: str, path: str, origin: Origin, headers: Mapping[str, str], length: int) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {origin.authority}"]
    lines += [f"{name}: {text}" for name, text in headers.items()]
    if length or method not in ("GET", "HEAD"):
        lines.append(f"Content-Length: {length}")
    text = "\r\n".join(lines)
    if not text.count("\r") == text.count("\n") == len(lines) - 1:
        raise ValueError("An address or a header has a line break in it.")
    return f"{text}\r\n\r\n".encode("latin-1")


class Response:
    """
    A response, its body as it comes.

    ``silence_seconds``, which may be changed, bounds each wait for something to come; what does not
    come in that time, or with the connection's end, raises HttpError.
    """

    def __init__(self, connection: _Connection, method: str, silence_seconds: float) -> None:
        self.silence_seconds = silence_seconds
        self.status = 0
        #: By name in lower case. Of lines with the same name the last counts.
        self.headers: dict[str, str] = {}
        self.method = method
        self.connection = connection
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = False
        self._error: HttpError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def begun(self) -> None:
        """Return once the headers are here."""
        try:
            while not self.status:
                await self._wait()
        except BaseException:
            self.close()
            raise

    async def read(self) -> bytes:
        """The rest of the body."""
        pieces: list[bytes] = []
        try:
            while True:
                pieces += self._taken()
                if self._ended:
                    return b"".join(pieces)
                await self._wait()
        finally:
            self.close()

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The rest of the body, as it comes."""
        try:
            while True:
                if taken := self._taken():
                    yield b"".join(taken)
                elif self._ended:
                    return
                else:
                    await self._wait()
        finally:
            self.close()

    def _taken(self) -> list[bytes]:
        taken, self._pieces, self._size = self._pieces, [], 0
        if taken:
            self.connection.go_on()
        return taken

    def close(self) -> None:
        """Read no more. A connection on which something may still come is of no further use."""
        if not self._ended:
            self._ended = True
            self.connection.abort()

    # What the connection tells.

    def headed(self, status: int) -> None:
        """Take note of the status; the headers are complete."""
        self.status = status
        self._wake()

    def came(self, data: bytes) -> bool:
        """Take a piece of the body; False when it is to be the last for a while."""
        self._pieces.append(data)
        self._size += len(data)
        self._wake()
        return self._size < UNREAD_BYTES_MAX

    def end(self) -> None:
        """Take note that the body is complete."""
        self._ended = True
        self._wake()

    def fail(self, error: HttpError) -> None:
        """Take note that nothing more will come."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        """Return when something has come. Raises what the connection failed with, and Silence."""
        if self._error is not None:
            raise self._error
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(self.silence_seconds, self._silent, self._waiter)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
        if self._error is not None and not self._pieces:
            raise self._error

    def _silent(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            self.fail(Silence(f"Nothing came in {self.silence_seconds:g} s."))


class _Connection(asyncio.Protocol):
    """One connection, with one response at a time. What httptools finds it passes on."""

    def __init__(self, pool: Connections, origin: Origin) -> None:
        self.origin = origin
        self.used_at = 0.0
        self._pool = pool
        self._response: Response | None = None
        self._parser: Any = None
        self._headers: dict[str, str] = {}
        #: What has come of the present response before its headers were complete.
        self._head_bytes = 0
        #: Whether the body ends where the connection does.
        self._until_close = False
        #: Whether the response has ended and the connection has not.
        self._keeps = False
        self._is_paused = False

    def carry(self, response: Response, head: bytes, body: bytes) -> None:
        """Send a request, to whose response everything from now on belongs."""
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
        """Take more in: what was here has been read."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """End it at once."""
        self._response = None
        self._transport.abort()

    # What asyncio tells.

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

    # What httptools tells.

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
