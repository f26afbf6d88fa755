"""Opens connections to the first of a host's addresses that answers, or through a proxy."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

from inferline.http.errors import CannotConnect, ProxyFailed, Untrusted
from inferline.http.origin import Origin
from inferline.http.proxies import Proxy

#: How long an address may take until the name's next one is tried beside it, seconds (RFC 8305).
NEXT_ADDRESS_SECONDS: Final = 0.25
#: How many names are remembered with the address that answered.
NAMES_MAX: Final = 256
#: The longest head of a proxy's answer, bytes.
PROXY_HEAD_BYTES_MAX: Final = 64 * 1024

P = TypeVar("P", bound=asyncio.Protocol)
AddressInfo = tuple[Any, Any, int, str, Any]


class Dialer:
    """An opener of connections. Its callers bound the time."""

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None
        #: The address that answered last. It is tried first, so that a dead one before it costs its
        #: time once and not with each connection.
        self._answered: dict[Origin, Any] = {}

    async def dial(self, make: Callable[[], P], origin: Origin, proxy: Proxy | None) -> P:
        """
        Connect a protocol to ``origin``, or to the proxy that leads there. Raises CannotConnect.

        https goes through a tunnel, whose other end is ``origin``; http requests are passed on by
        the proxy.
        """
        if proxy is None:
            return await self._direct(make, origin)
        if origin.is_tls:
            return await self._through(make, origin, proxy)
        return await self._to_proxy(make, proxy)

    async def _to_proxy(self, make: Callable[[], P], proxy: Proxy) -> P:
        try:
            return await self._direct(make, proxy.origin)
        except CannotConnect as error:
            raise ProxyFailed(f"The proxy {proxy.address} can't be used: {error}") from error

    async def _through(self, make: Callable[[], P], origin: Origin, proxy: Proxy) -> P:
        tunnel = await self._to_proxy(_Tunnel, proxy)
        try:
            await tunnel.open(origin, proxy)
            connection = make()
            transport = await asyncio.get_running_loop().start_tls(
                tunnel.transport, connection, self._context(), server_hostname=origin.host
            )
            if transport is None:
                raise ConnectionError("The connection was closed.")
        except BaseException as error:
            tunnel.transport.abort()
            if isinstance(error, OSError) and not isinstance(error, ProxyFailed | TimeoutError):
                raise _translated(error, f" through the proxy {proxy.address}") from error
            raise
        connection.connection_made(transport)
        return connection

    async def _direct(self, make: Callable[[], P], origin: Origin) -> P:
        connect = asyncio.get_running_loop().create_connection
        tls = self._context() if origin.is_tls else None
        name = origin.host if tls else None
        try:
            addresses = [] if _is_address(origin.host) else await _resolved(origin)
            if len(addresses) > 1:
                sock = await self._first_to_answer(origin, addresses)
                _, connection = await connect(make, sock=sock, ssl=tls, server_hostname=name)
            else:  # By the loop itself, which costs the less.
                host = addresses[0][4][0] if addresses else origin.host
                _, connection = await connect(
                    make, host, origin.port, ssl=tls, server_hostname=name
                )
        except (CannotConnect, TimeoutError):
            raise
        except (OSError, RuntimeError) as error:  # uvloop has the latter for some.
            raise _translated(error) from error
        return connection

    async def _first_to_answer(
        self, origin: Origin, addresses: Sequence[AddressInfo]
    ) -> socket.socket:
        """Return a socket connected to one of a host's addresses."""
        from aiohappyeyeballs import start_connection  # Here, because a function's start is short.

        last = self._answered.get(origin)
        ordered = sorted(addresses, key=lambda address: address[4] != last)
        sock = await start_connection(ordered, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
        if len(self._answered) >= NAMES_MAX:
            self._answered.clear()
        self._answered[origin] = sock.getpeername()
        return sock

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


class _Tunnel(asyncio.Protocol):
    """A connection to a proxy, until it is a tunnel to the origin."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._opened: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def open(self, origin: Origin, proxy: Proxy) -> None:
        """Ask the proxy for a tunnel to ``origin``. Raises ProxyFailed."""
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        place = f"{host}:{origin.port}"
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        head = await self._opened
        version, _, rest = head.partition(b" ")
        status = rest[:3].decode("latin-1")
        if not version.startswith(b"HTTP/") or not status.isdigit():
            raise ProxyFailed(f"The proxy {proxy.address} gave no answer that is HTTP.")
        if not 200 <= int(status) < 300:
            raise refusal(proxy, int(status), place)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are of another family

    def data_received(self, data: bytes) -> None:
        self._head += data
        is_whole = b"\r\n\r\n" in self._head
        if not self._opened.done() and (is_whole or len(self._head) > PROXY_HEAD_BYTES_MAX):
            self._opened.set_result(bytes(self._head) if is_whole else b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._opened.done():
            self._opened.set_result(b"")


def refusal(proxy: Proxy, status: int, place: str) -> ProxyFailed:
    """Return the error for a proxy that does not lead to ``place``, with the remedy."""
    if status == 407 or (status == 401 and proxy.authorization):  # tinyproxy has the latter.
        which = "other than those that it was shown" if proxy.authorization else "of a user"
        return ProxyFailed(
            f"The proxy {proxy.address} wants a name and a password {which}: set them where it is "
            "set, as in HTTPS_PROXY=http://name:password@host:port."
        )
    return ProxyFailed(
        f"The proxy {proxy.address} does not lead to {place}: it answered {status}. Its log says "
        "why; NO_PROXY names hosts that are asked without it."
    )


async def _resolved(origin: Origin) -> list[AddressInfo]:
    loop, name = asyncio.get_running_loop(), origin.host
    try:
        return await loop.getaddrinfo(name, origin.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:  # The latter for what can be no name.
        why = error.strerror if isinstance(error, OSError) else "it can't be one"
        raise CannotConnect(f"The host name {name!r} has no address here: {why}.") from error


def _translated(error: Exception, way: str = "") -> CannotConnect:
    if isinstance(error, ssl.SSLError):
        return Untrusted(f"{error}{way}")
    return CannotConnect(f"{str(error) or type(error).__name__}{way}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
