"""Requests by way of a proxy, and which ones go there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from inferline.http.connections import Connections
from inferline.http.errors import CannotConnect, ConnectTimeout, ProxyFailed, Untrusted
from inferline.http.origin import place
from inferline.http.proxies import NO_PROXIES, Proxies, is_exempt
from tests.support.certificates import certificate, server_context
from tests.support.emulators import free_port
from tests.support.forward_proxy import ForwardProxy
from tests.unit.http.test_http import CHUNKED, OK, Server

NAME = "server.test"
BASIC = "Basic bmFtZTpwQHNz"  # name:p@ss


@asynccontextmanager
async def proxied(
    proxies: Callable[[int], Proxies],
    *answers: bytes,
    authorization: str = "",
    tls: Path | None = None,
) -> AsyncIterator[tuple[Connections, Server, ForwardProxy]]:
    """Return a server that seems to be behind the proxy only; whether by TLS, and the proxy."""
    server = Server(*answers)
    async with server.serving(server_context(tls) if tls else None):
        port = int(server.url.split(":")[2].split("/")[0])
        proxy = ForwardProxy({NAME: port}, authorization)
        async with (
            proxy.serving(),
            Connections(connect_seconds=5, idle_seconds=5, proxies=proxies(proxy.port)) as opened,
        ):
            yield opened, server, proxy


def at(port: int) -> Proxies:
    url = f"http://127.0.0.1:{port}"
    return Proxies(url, url)


def with_password(port: int) -> Proxies:
    url = f"http://name:p%40ss@127.0.0.1:{port}"
    return Proxies(url, url)


async def get(connections: Connections, url: str) -> bytes:
    response = await connections.send("GET", url, {}, b"", silence_seconds=5)
    return await response.read()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_https_goes_through_a_tunnel_whose_connection_is_kept(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path, NAME)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))

    async def run() -> None:
        async with proxied(with_password, OK, CHUNKED, tls=path, authorization=BASIC) as scene:
            connections, server, proxy = scene
            assert await get(connections, f"https://{NAME}/path") == b"hello"
            assert await get(connections, f"https://{NAME}/path") == b"hello, again"

            assert proxy.asked == [f"CONNECT {NAME}:443 HTTP/1.1"]
            assert server.requests == [f"GET /path HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()] * 2

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


async def test_http_is_asked_of_the_proxy_by_its_whole_address() -> None:
    async with proxied(with_password, OK, authorization=BASIC) as (connections, _, proxy):
        assert await get(connections, f"http://{NAME}:8080/path?query") == b"hello"

    assert proxy.asked == [f"GET http://{NAME}:8080/path?query HTTP/1.1"]
    assert f"Host: {NAME}:8080\r\n" in proxy.heads


async def test_a_proxy_that_passes_on_is_connected_to_each_time() -> None:
    async with proxied(at, OK, OK) as (connections, server, proxy):
        for _ in "ab":
            assert await get(connections, f"http://{NAME}/") == b"hello"

        assert 2 == len(proxy.asked) == server.connections


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_proxy_may_itself_be_reached_by_tls(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path, "localhost")
    inner = certificate(tmp_path, NAME)
    both = tmp_path / "both.pem"
    both.write_bytes(path.read_bytes() + inner.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(both))

    async def run() -> None:
        server = Server(OK)
        async with server.serving(server_context(inner)):
            port = int(server.url.split(":")[2].split("/")[0])
            async with ForwardProxy({NAME: port}).serving(server_context(path)) as proxy:
                url = f"https://localhost:{proxy.port}"
                async with Connections(
                    connect_seconds=5, idle_seconds=5, proxies=Proxies("", url)
                ) as connections:
                    assert await get(connections, f"https://{NAME}/") == b"hello"

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("proxies", "hint"), [(at, "of a user"), (with_password, "other than those")]
)
async def test_a_proxy_that_wants_a_password_is_told(
    scheme: str, proxies: Callable[[int], Proxies], hint: str
) -> None:
    async with proxied(proxies, OK, authorization="Basic b3RoZXI=") as (connections, server, proxy):
        with pytest.raises(ProxyFailed, match=hint) as refused:
            await get(connections, f"{scheme}://{NAME}/")

        assert server.requests == []
        assert f"http://127.0.0.1:{proxy.port}" in str(refused.value)
        assert "p@ss" not in str(refused.value)
        assert "p%40ss" not in repr(proxies(1))


async def test_a_proxy_that_does_not_lead_there_is_told() -> None:
    async with proxied(at, OK) as (connections, _, _):
        with pytest.raises(ProxyFailed, match=r"does not lead to other\.test:443: it answered 403"):
            await get(connections, "https://other.test/")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_down_is_told_by_its_address(scheme: str) -> None:
    port = free_port()
    async with Connections(
        connect_seconds=5, idle_seconds=0, proxies=with_password(port)
    ) as connections:
        with pytest.raises(ProxyFailed, match=f"The proxy http://127.0.0.1:{port} can't") as failed:
            await get(connections, f"{scheme}://{NAME}/")

    assert "p@ss" not in str(failed.value)


async def test_a_tunnel_to_who_is_not_trusted_gets_no_request(tmp_path: Path) -> None:
    path = certificate(tmp_path, NAME)
    async with proxied(at, OK, tls=path) as (connections, server, _):
        with pytest.raises(Untrusted, match="through the proxy"):
            await get(connections, f"https://{NAME}/")

        assert server.requests == []


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_proxy_that_says_nothing_is_named_and_left(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def run() -> None:
        server = Server()
        async with server.serving():
            port = int(server.url.split(":")[2].split("/")[0])
            async with Connections(
                connect_seconds=0.2, idle_seconds=0, proxies=with_password(port)
            ) as connections:
                with pytest.raises(ConnectTimeout, match=f"proxy http://127.0.0.1:{port} in"):
                    await get(connections, f"https://{NAME}/")
            await server.left.wait()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


async def test_a_proxy_that_refuses_a_password_in_its_own_way_is_told() -> None:
    server = Server(b"HTTP/1.0 401 Unauthorized\r\nServer: tinyproxy/1.11.1\r\n\r\n")
    async with server.serving():
        port = int(server.url.split(":")[2].split("/")[0])
        async with Connections(
            connect_seconds=5, idle_seconds=0, proxies=with_password(port)
        ) as connections:
            with pytest.raises(ProxyFailed, match="other than those"):
                await get(connections, f"https://{NAME}/")


@pytest.mark.parametrize("head", [b"", b"220 mail.example ESMTP\r\n\r\n", b"x" * 70_000])
async def test_what_is_no_proxy_is_told(head: bytes) -> None:
    server = Server(head, hangs_up=True)
    async with server.serving():
        port = int(server.url.split(":")[2].split("/")[0])
        async with Connections(connect_seconds=5, idle_seconds=0, proxies=at(port)) as connections:
            with pytest.raises(ProxyFailed, match="no answer that is HTTP"):
                await get(connections, f"https://{NAME}/")


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "http://host:port", "http://:3128", "://"])
async def test_a_proxy_that_can_not_be_used_is_told_when_it_would_be(url: str) -> None:
    async with Connections(
        connect_seconds=5, idle_seconds=0, proxies=Proxies(url, url)
    ) as connections:
        with pytest.raises(CannotConnect, match=r"Set HTTPS_PROXY to one, or name server\.test"):
            await get(connections, f"https://{NAME}/")


async def test_this_machine_is_asked_without_a_proxy() -> None:
    server = Server(OK)
    async with (
        server.serving(),
        Connections(connect_seconds=5, idle_seconds=0, proxies=at(free_port())) as connections,
    ):
        assert await get(connections, server.url) == b"hello"


# Which proxy


@pytest.mark.parametrize(
    ("environ", "http", "https"),
    [
        ({}, "", ""),
        ({"HTTPS_PROXY": "a", "HTTP_PROXY": "b"}, "b", "a"),
        ({"https_proxy": "a", "HTTPS_PROXY": "b"}, "", "a"),
        ({"https_proxy": "", "HTTPS_PROXY": "b"}, "", "b"),
        ({"https_proxy": " ", "HTTPS_PROXY": " b\r"}, "", "b"),
        ({"ALL_PROXY": "a"}, "a", "a"),
        ({"all_proxy": "a", "HTTPS_PROXY": "b"}, "a", "b"),
        ({"HTTP_PROXY": "a", "REQUEST_METHOD": "GET"}, "", ""),
        ({"http_proxy": "a", "REQUEST_METHOD": "GET"}, "a", ""),
    ],
)
def test_the_environment_says_which_proxy(environ: dict[str, str], http: str, https: str) -> None:
    proxies = Proxies.from_env(environ)

    assert (proxies.http, proxies.https) == (http, https)


def test_a_proxy_may_be_given_without_a_scheme() -> None:
    proxy = Proxies("proxy.test:3128").proxy_for(place("http://server.test")[0])

    assert proxy is not None
    assert proxy.address == "http://proxy.test:3128"


def test_without_a_proxy_none_is_asked() -> None:
    assert NO_PROXIES.proxy_for(place("https://server.test")[0]) is None


@pytest.mark.parametrize(
    ("host", "port", "exempt"),
    [
        ("server.test", 443, "server.test"),
        ("SERVER.test", 443, "server.TEST"),
        ("server.test", 443, "other, server.test"),
        ("server.test", 443, "other server.test"),
        ("a.server.test", 443, "server.test"),
        ("a.server.test", 443, ".server.test"),
        ("a.server.test", 443, "*.server.test"),
        ("server.test", 443, ".server.test"),
        ("server.test.", 443, "server.test"),
        ("server.test", 443, "*"),
        ("server.test", 8443, "server.test:8443"),
        ("a.server.test", 8443, ".server.test:8443"),
        ("10.1.2.3", 443, "10.1.2.3"),
        ("10.1.2.3", 80, "10.1.2.3:80"),
        ("10.1.2.3", 443, "10.0.0.0/8"),
        ("10.1.2.3", 443, "10.9.9.9/8"),
        ("fd00::1", 443, "fd00::/8"),
        ("fd00::1", 443, "[fd00::1]"),
        ("fd00::1", 443, "[fd00::1]:443"),
        ("fd00:0::1", 443, "fd00::1"),
        ("::ffff:10.1.2.3", 443, "10.0.0.0/8"),
        ("localhost", 80, ""),
        ("a.localhost", 80, ""),
        ("127.0.0.1", 80, ""),
        ("127.8.9.1", 80, ""),
        ("::1", 80, ""),
        ("0.0.0.0", 80, ""),
    ],
)
def test_what_is_asked_without_a_proxy(host: str, port: int, exempt: str) -> None:
    assert is_exempt(host, port, exempt)


@pytest.mark.parametrize(
    ("host", "port", "exempt"),
    [
        ("server.test", 443, ""),
        ("server.test", 443, "other.test"),
        ("aserver.test", 443, "server.test"),
        ("aserver.test", 443, ".server.test"),
        ("server.test", 443, "a.server.test"),
        ("server.test", 443, "server.test:8443"),
        ("server.test", 443, "."),
        ("11.1.2.3", 443, "10.0.0.0/8"),
        ("10.1.2.3", 443, "1.2.3"),
        ("10.1.2.3", 443, "10.1.2.3:80"),
        ("10.server.test", 443, "10.0.0.0/8"),
        ("fd00::1", 443, "[fd00::1]:80"),
        ("localhost.test", 80, ""),
    ],
)
def test_what_goes_to_the_proxy(host: str, port: int, exempt: str) -> None:
    assert not is_exempt(host, port, exempt)
