"""Names of hosts: which of their addresses is connected to, and what is said of those without."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import uvloop

from inferline.http import dialing
from inferline.http.connections import Connections
from inferline.http.errors import CannotConnect, HttpError
from tests.support.pace import within
from tests.unit.http.test_http import OK, Server

BOTH_LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
Loop = Callable[[], asyncio.AbstractEventLoop]

#: Longer than a connection may take: whoever waits for this fails.
NEVER_SECONDS = 60.0


@contextmanager
def silent(host: str, port: int) -> Iterator[None]:
    """Return an address that neither accepts nor refuses connections: its backlog is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((host, port))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((host, port))
        yield


def resolve_to(*hosts: str) -> None:
    """Have the running loop find these addresses for `server.test`."""
    loop = asyncio.get_running_loop()
    really = loop.getaddrinfo

    async def getaddrinfo(host: str, port: int, **options: Any) -> Any:
        if host != "server.test":
            return await really(host, port, **options)
        stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*stream, (one, port)) for one in hosts]

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]


async def get(connections: Connections, port: int) -> float:
    """Return how long a connection by name took, seconds; check the answer."""
    begin = time.monotonic()
    response = await connections.send(
        "GET", f"http://server.test:{port}/", {}, b"", silence_seconds=60
    )
    assert await response.read() == b"hello"
    return time.monotonic() - begin


@BOTH_LOOPS
def test_a_name_whose_first_address_is_dead_connects_by_the_second(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        resolve_to("127.0.0.2", "127.0.0.1")
        server = Server(OK, OK)
        async with server.serving(), Connections(connect_seconds=5, idle_seconds=0) as connections:
            port = int(server.url.split(":")[2].split("/")[0])
            with silent("127.0.0.2", port):
                assert await get(connections, port) < within(2)

                # The dead one is known by now: the second comes first, or the request fails.
                monkeypatch.setattr(dialing, "NEXT_ADDRESS_SECONDS", NEVER_SECONDS)
                await get(connections, port)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


@BOTH_LOOPS
def test_a_name_whose_first_address_refuses_connects_by_the_second_at_once(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialing, "NEXT_ADDRESS_SECONDS", NEVER_SECONDS)

    async def run() -> None:
        resolve_to("127.0.0.2", "127.0.0.1")
        server = Server(OK)
        async with server.serving(), Connections(connect_seconds=5, idle_seconds=0) as connections:
            port = int(server.url.split(":")[2].split("/")[0])

            await get(connections, port)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


@BOTH_LOOPS
def test_what_was_said_first_is_sent_at_once_by_name_as_by_address(loop: Loop) -> None:
    async def run() -> int:
        resolve_to("127.0.0.1")
        server = Server(OK)
        async with server.serving(), Connections(connect_seconds=5, idle_seconds=5) as connections:
            port = int(server.url.split(":")[2].split("/")[0])
            await get(connections, port)
            (connection,) = connections.all
            sock = connection._transport.get_extra_info("socket")
            return int(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(run()) != 0


@BOTH_LOOPS
@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 70])
def test_a_name_without_an_address_is_told(loop: Loop, host: str) -> None:
    async def run() -> None:
        async with Connections(connect_seconds=5, idle_seconds=0) as connections:
            with pytest.raises(CannotConnect, match=f"The host name '{host}' has no address here"):
                await connections.send("GET", f"http://{host}/", {}, b"", silence_seconds=60)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


@BOTH_LOOPS
def test_a_name_of_which_no_address_answers_is_told(loop: Loop) -> None:
    async def run() -> None:
        resolve_to("127.0.0.2", "127.0.0.3")
        async with Connections(connect_seconds=5, idle_seconds=0) as connections:
            with pytest.raises(CannotConnect, match=r"refused|failed"):
                await connections.send("GET", "http://server.test:9/", {}, b"", silence_seconds=60)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


async def test_why_there_is_no_connection_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "inferline")
    server = Server(OK)
    async with (
        server.serving(),
        Connections(connect_seconds=5, idle_seconds=0, to="AWS") as connections,
    ):
        for url in ("http://a..b/", "http://a..b/", server.url, server.url):
            with suppress(HttpError):
                await connections.send("GET", url, {}, b"", silence_seconds=0.1)

    assert caplog.messages == [
        "There is no connection to AWS: The host name 'a..b' has no address here: it can't be one.",
        "There is a connection to AWS again.",
    ]
