"""The HTTP client against servers that send exactly these bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from inferline.http.connection import HEADER_BYTES_MAX
from inferline.http.connections import Connections
from inferline.http.errors import (
    CannotConnect,
    ConnectTimeout,
    HungUp,
    NotHttp,
    Silence,
    Untrusted,
)
from inferline.http.response import UNREAD_BYTES_MAX, Response
from tests.support.certificates import certificate, server_context
from tests.support.emulators import free_port

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Name: value\r\n\r\nhello"


class Server:
    """Sends scripted bytes for each request, on however many connections."""

    def __init__(self, *answers: bytes, hangs_up: bool = False) -> None:
        self.answers = list(answers)
        self.hangs_up = hangs_up
        self.requests: list[bytes] = []
        self.connections = 0
        self.url = ""
        #: Set when a request has come, and when a connection has ended.
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            self.requests.append(await _request(reader))
            self.asked.set()
            if self.answers:
                writer.write(self.answers.pop(0))
                await writer.drain()
            if self.hangs_up:
                break

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._serving.add(asyncio.create_task(self._served(reader, writer)))

        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/path?query"
        try:
            yield self
        finally:
            server.close()
            for serving in self._serving:
                serving.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await self.serve(reader, writer)
        finally:
            self.left.set()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    _, _, length = head.lower().partition(b"content-length: ")
    return head + await reader.readexactly(int(length.split(b"\r\n")[0] or 0) if length else 0)


@asynccontextmanager
async def opened(
    *answers: bytes, hangs_up: bool = False, idle_seconds: float = 30
) -> AsyncIterator[tuple[Connections, Server]]:
    server = Server(*answers, hangs_up=hangs_up)
    async with (
        server.serving(),
        Connections(connect_seconds=5, idle_seconds=idle_seconds) as connections,
    ):
        yield connections, server


async def ask(
    connections: Connections,
    server: Server,
    method: str = "POST",
    body: bytes = b"{}",
    silence_seconds: float = 10,
) -> Response:
    return await connections.send(
        method, server.url, {"X-Sent": "1"}, body, silence_seconds=silence_seconds
    )


async def test_a_request_goes_out_as_it_was_given() -> None:
    async with opened(OK) as (connections, server):
        response = await ask(connections, server, body=b"a body")
        assert await response.read() == b"hello"

    authority = server.url.split("/")[2].encode()
    assert server.requests == [
        b"POST /path?query HTTP/1.1\r\nHost: " + authority + b"\r\nX-Sent: 1\r\n"
        b"Content-Length: 6\r\n\r\na body"
    ]
    assert (response.status, response.headers["x-name"]) == (200, "value")


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, again\r\n0\r\n\r\n"
)
UNMEASURED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello, again"
MEASURED = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, again"


@pytest.mark.parametrize("answer", [CHUNKED, UNMEASURED, MEASURED])
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 90), max_size=6))
def test_a_response_is_the_same_however_it_is_cut(answer: bytes, cuts: Sequence[int]) -> None:
    places = sorted({0, *(cut for cut in cuts if cut < len(answer)), len(answer)})
    parts = [answer[a:b] for a, b in pairwise(places)]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)

    async def run() -> bytes:
        server = Server()
        server.serve = serve  # type: ignore[method-assign]
        async with server.serving(), Connections(connect_seconds=5, idle_seconds=0) as connections:
            return await (await ask(connections, server)).read()

    assert asyncio.run(run()) == b"hello, again"


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_is_used_again_on_either_loop(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def run() -> int:
        async with opened(OK, CHUNKED, OK) as (connections, server):
            for wanted in (b"hello", b"hello, again", b"hello"):
                assert await (await ask(connections, server)).read() == wanted
            return server.connections

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(run()) == 1


@pytest.mark.parametrize(
    "answer",
    [
        OK.replace(b"X-Name: value", b"Connection: close"),
        OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["closed by word", "an old server", "an answer too many"],
)
async def test_a_connection_that_can_not_be_trusted_is_not_used_again(answer: bytes) -> None:
    async with opened(answer, OK) as (connections, server):
        assert await (await ask(connections, server)).read() == b"hello"
        assert await (await ask(connections, server)).read() == b"hello"

        assert server.connections == 2


async def test_a_connection_that_lay_idle_for_long_is_not_used_again() -> None:
    async with opened(OK, OK, idle_seconds=1) as (connections, server):
        assert await (await ask(connections, server)).read() == b"hello"
        for connection in connections.all:
            connection.used_at -= 1
        assert await (await ask(connections, server)).read() == b"hello"

        assert server.connections == 2


async def test_a_connection_that_the_other_side_has_closed_is_not_used_again() -> None:
    async with opened(OK, OK, hangs_up=True) as (connections, server):
        assert await (await ask(connections, server)).read() == b"hello"
        await server.left.wait()
        await asyncio.sleep(0.01)  # Until its end has come here, over the loopback.
        assert await (await ask(connections, server)).read() == b"hello"

        assert server.connections == 2


async def test_requests_at_one_moment_have_connections_of_their_own() -> None:
    async with opened(OK, OK) as (connections, server):
        first, second = await asyncio.gather(*(ask(connections, server) for _ in "ab"))
        assert [await first.read(), await second.read()] == [b"hello", b"hello"]

        assert server.connections == 2


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"),
    ],
)
async def test_what_has_no_body_ends_with_its_headers(method: str, answer: bytes) -> None:
    async with opened(answer) as (connections, server):
        response = await ask(connections, server, method, b"")
        assert await response.read() == b""

    assert b"Content-Length: 0" in server.requests[0] or method in ("GET", "HEAD")


async def test_what_is_said_before_the_response_is_not_taken_for_it() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nX-Name: early\r\n\r\n"
    async with opened(hints + OK, OK) as (connections, server):
        response = await ask(connections, server)
        assert (response.status, await response.read()) == (200, b"hello")
        assert response.headers["x-name"] == "value"
        await (await ask(connections, server)).read()

        assert server.connections == 1


# When it goes wrong


async def test_nobody_there_is_told() -> None:
    async with Connections(connect_seconds=5, idle_seconds=0) as connections:
        with pytest.raises(CannotConnect):
            await connections.send(
                "GET", f"http://127.0.0.1:{free_port()}", {}, b"", silence_seconds=5
            )


async def test_a_connection_that_takes_too_long_is_told() -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    async with opened() as (connections, server):
        connections.connect_seconds = 0.01
        asyncio.get_running_loop().create_connection = never  # type: ignore[assignment,method-assign]
        with pytest.raises(ConnectTimeout):
            await ask(connections, server)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", OK[:-1], CHUNKED[:-1]])
async def test_a_response_that_breaks_off_is_told(answer: bytes) -> None:
    async with opened(answer, hangs_up=True) as (connections, server):
        with pytest.raises(HungUp):
            await (await ask(connections, server)).read()


async def test_what_came_before_a_break_is_read_first() -> None:
    async with opened(OK[:-1], hangs_up=True) as (connections, server):
        response = await ask(connections, server)
        await server.left.wait()
        pieces = response.pieces()

        assert await anext(pieces) == b"hell"
        with pytest.raises(HungUp):
            await anext(pieces)


@pytest.mark.parametrize("answer", [b"", OK[:-1]])
async def test_silence_is_told(answer: bytes) -> None:
    async with opened(answer) as (connections, server):
        with pytest.raises(Silence):
            await (await ask(connections, server, silence_seconds=0.05)).read()
        await server.left.wait()


async def test_a_silence_is_bounded_each_time_anew() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(CHUNKED[:-5])
        for _ in range(4):
            await asyncio.sleep(0.1)
            writer.write(b"1\r\n.\r\n")
        writer.write(b"0\r\n\r\n")

    server = Server()
    server.serve = serve  # type: ignore[method-assign]
    async with server.serving(), Connections(connect_seconds=5, idle_seconds=0) as connections:
        response = await ask(connections, server)
        response.silence_seconds = 0.3

        assert await response.read() == b"hello, again...."


async def test_a_silence_is_waited_out_for_as_long_as_that_is_worth_it() -> None:
    verdicts = [True, True, False]

    async def outlasts() -> bool:
        return verdicts.pop(0)

    async with opened(OK[:-1]) as (connections, server):
        response = await connections.send(
            "GET", server.url, {}, b"", silence_seconds=0.02, outlasts=outlasts
        )
        with pytest.raises(Silence):
            await response.read()

    assert not verdicts


async def test_what_comes_while_it_is_asked_is_not_kept_waiting() -> None:
    asked = asyncio.Event()

    async def outlasts() -> bool:
        asked.set()
        await asyncio.Event().wait()
        return False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        await asked.wait()
        writer.write(OK)

    server = Server()
    server.serve = serve  # type: ignore[method-assign]
    async with server.serving(), Connections(connect_seconds=5, idle_seconds=0) as connections:
        response = await connections.send(
            "GET", server.url, {"X-Sent": "1"}, b"", silence_seconds=0.02, outlasts=outlasts
        )

        assert await response.read() == b"hello"


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * HEADER_BYTES_MAX,
    ],
)
async def test_what_is_no_response_is_told(answer: bytes) -> None:
    async with opened(answer) as (connections, server):
        with pytest.raises(NotHttp):
            await ask(connections, server)
        await server.left.wait()


@pytest.mark.parametrize("text", ["a\r\nX-Forged: 1", "a\nb", "a\rb"])
async def test_a_line_break_gets_into_no_header(text: str) -> None:
    async with opened(OK) as (connections, server):
        with pytest.raises(ValueError, match="line break"):
            await connections.send("POST", server.url, {"X-Sent": text}, b"", silence_seconds=5)

        assert server.connections == 0


async def test_a_server_without_a_certificate_that_counts_gets_no_request(tmp_path: Path) -> None:
    server = Server(OK)
    async with (
        server.serving(server_context(certificate(tmp_path, "127.0.0.1"))),
        Connections(connect_seconds=5, idle_seconds=0) as connections,
    ):
        with pytest.raises(Untrusted):
            await ask(connections, server)

    assert server.requests == []


# When it is left


async def test_a_response_that_is_closed_ends_its_connection() -> None:
    async with opened(OK[:-1]) as (connections, server):
        response = await ask(connections, server)
        response.close()
        await server.left.wait()


async def test_a_cancelled_request_ends_its_connection() -> None:
    async with opened() as (connections, server):
        asking = asyncio.create_task(ask(connections, server))
        await server.asked.wait()
        asking.cancel()
        await server.left.wait()

        assert asking.cancelled()


async def test_who_does_not_read_makes_the_sender_wait() -> None:
    sent = 0
    length = 64 * UNREAD_BYTES_MAX

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await _request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
        while sent < length:
            writer.write(bytes(UNREAD_BYTES_MAX))
            await writer.drain()
            sent += UNREAD_BYTES_MAX

    server = Server()
    server.serve = serve  # type: ignore[method-assign]
    async with server.serving(), Connections(connect_seconds=5, idle_seconds=0) as connections:
        response = await ask(connections, server)
        before = -1
        while before != sent:  # Until nothing moves any more.
            before = sent
            await asyncio.sleep(0.05)
        assert sent < length

        assert len(await response.read()) == length


async def test_the_end_closes_what_is_under_way() -> None:
    async with Server(OK[:-1]).serving() as server:
        async with Connections(connect_seconds=5, idle_seconds=5) as connections:
            await ask(connections, server)
        await server.left.wait()


async def test_connections_that_are_not_open_say_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await ask(Connections(connect_seconds=5, idle_seconds=5), Server(OK))
