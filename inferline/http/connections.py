"""A pool of connections, kept open where the other side keeps them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from typing import Self

from inferline.http.connection import Connection
from inferline.http.dialing import Dialer, refusal
from inferline.http.errors import ConnectTimeout, HttpError
from inferline.http.origin import Origin, place
from inferline.http.proxies import NO_PROXIES, Proxies, Proxy
from inferline.http.response import Outlasts, Response

log = logging.getLogger(__name__)


class Connections:
    """
    A pool of connections for one event loop; use it as a context manager.

    ``idle_seconds`` is how long an unused connection may still take another request; 0 keeps none.
    ``to`` names the other side in log lines about failed connections; without a name nothing is
    logged.
    """

    def __init__(
        self,
        *,
        connect_seconds: float,
        idle_seconds: float,
        proxies: Proxies = NO_PROXIES,
        to: str = "",
    ) -> None:
        self.connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        #: Unused connections, the one used last at the end.
        self._idle: dict[Origin, deque[Connection]] = {}
        #: All open connections.
        self.all: set[Connection] = set()
        self._proxies = proxies
        self._to = to
        #: Why there was no connection lately, as it was logged; empty while there is one.
        self._trouble = ""
        self._dialer = Dialer()
        self._is_open = False

    async def __aenter__(self) -> Self:
        """Open; nothing is connected before the first request."""
        self._is_open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close every connection, those in use as well."""
        self._is_open = False
        for connection in list(self.all):
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
        outlasts: Outlasts | None = None,
    ) -> Response:
        """
        Send a request and return the response once its headers are here. Raises HttpError.

        ``url`` is sent as it is written. The response must be read to its end, or closed. For
        ``silence_seconds`` and ``outlasts`` see `Response`.
        """
        if not self._is_open:
            raise RuntimeError("The connections are not open: use `async with`.")
        origin, path = place(url)
        proxy = self._proxies.proxy_for(origin)
        if proxy is not None and not origin.is_tls:
            path, headers = f"http://{origin.authority}{path}", _shown(headers, proxy)
        head = _head(method, path, origin, headers, len(body))
        connection = self._kept(origin) or await self._connected(origin, proxy)
        response = Response(connection, method, silence_seconds, outlasts)
        connection.carry(response, head, body)
        await response.begun()
        if response.status == 407 and proxy is not None and connection.is_passed_on:
            response.close()
            raise self._logged(refusal(proxy, response.status, origin.authority))
        if self._trouble:
            self._trouble = ""
            log.info("There is a connection to %s again.", self._to)
        return response

    def keep(self, connection: Connection) -> None:
        """Take back a connection whose response was read."""
        if not self._is_open or not self._idle_seconds or connection.is_passed_on:
            connection.abort()
            return
        idle = self._idle.setdefault(connection.origin, deque())
        idle.append(connection)
        # What has lain longest goes first, so that a pool that was once large becomes small again.
        while connection.used_at - idle[0].used_at >= self._idle_seconds:
            idle.popleft().abort()

    def forget(self, connection: Connection) -> None:
        """Remove a connection that has ended."""
        self.all.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)

    def _kept(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        since = asyncio.get_running_loop().time() - self._idle_seconds
        while idle:
            connection = idle.pop()
            if connection.used_at > since:
                return connection
            connection.abort()
        return None

    async def _connected(self, origin: Origin, proxy: Proxy | None) -> Connection:
        try:
            connection = await self._dialed(origin, proxy)
        except HttpError as error:
            raise self._logged(error) from error.__cause__
        connection.is_passed_on = proxy is not None and not origin.is_tls
        self.all.add(connection)
        return connection

    async def _dialed(self, origin: Origin, proxy: Proxy | None) -> Connection:
        try:
            async with asyncio.timeout(self.connect_seconds):
                return await self._dialer.dial(lambda: Connection(self, origin), origin, proxy)
        except TimeoutError as error:
            way = f" through the proxy {proxy.address}" if proxy else ""
            raise ConnectTimeout(
                f"No connection to {origin.authority}{way} in {self.connect_seconds:g} s."
            ) from error

    def _logged(self, error: HttpError) -> HttpError:
        """Log that there is no connection, unless the last log line said so; return the error."""
        if self._to and str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("There is no connection to %s: %s", self._to, error)
        return error


def _shown(headers: Mapping[str, str], proxy: Proxy) -> Mapping[str, str]:
    """Return the headers, with the proxy's authorization."""
    if not proxy.authorization:
        return headers
    return {**headers, "Proxy-Authorization": proxy.authorization}


def _head(method: str, path: str, origin: Origin, headers: Mapping[str, str], length: int) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {origin.authority}"]
    lines += [f"{name}: {text}" for name, text in headers.items()]
    if length or method not in ("GET", "HEAD"):
        lines.append(f"Content-Length: {length}")
    text = "\r\n".join(lines)
    if not text.count("\r") == text.count("\n") == len(lines) - 1:
        raise ValueError("An address or a header has a line break in it.")
    return f"{text}\r\n\r\n".encode("latin-1")
