"""A provider whose way to the gateway, to AWS and to its backend is a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from inferline.aws.api.client import AwsClient
from inferline.aws.api.credentials import StaticCredentials
from inferline.http.proxies import Proxies
from inferline_provider.backend.client import BackendClient
from inferline_provider.enrolment import GatewayClient, GatewayUnreachable
from tests.provider.command import read
from tests.support.certificates import certificate, server_context
from tests.support.emulators import free_port
from tests.support.forward_proxy import ForwardProxy
from tests.unit.http.test_http import Server


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@asynccontextmanager
async def hidden(
    name: str, body: bytes, tls: Path | None = None
) -> AsyncIterator[tuple[Proxies, ForwardProxy]]:
    """Run a server that only a proxy finds, with the settings for that."""
    server = Server(answer(body))
    async with server.serving(server_context(tls) if tls else None):
        port = int(server.url.split(":")[2].split("/")[0])
        async with ForwardProxy({name: port}).serving() as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
            yield Proxies.from_env({"HTTPS_PROXY": url, "HTTP_PROXY": url}), proxy


async def test_a_backend_is_asked_through_it() -> None:
    async with (
        hidden("llm.test", b'{"data": [{"id": "m"}]}') as (proxies, proxy),
        BackendClient("http://llm.test:8001", proxies=proxies) as backend,
    ):
        (model,) = await backend.models()

    assert model.id == "m"
    assert proxy.asked == ["GET http://llm.test:8001/v1/models HTTP/1.1"]


async def test_the_gateway_is_told_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path, "gateway.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with (
        hidden("gateway.test", b"", path) as (proxies, proxy),
        GatewayClient("https://gateway.test/api", "ilp_secret", proxies) as gateway,
    ):
        await gateway.leave("provider")

    assert proxy.asked == ["CONNECT gateway.test:443 HTTP/1.1"]
    assert "ilp_secret" not in proxy.heads


async def test_aws_is_asked_through_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = "sqs.us-east-1.amazonaws.com"
    path = certificate(tmp_path, host)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with hidden(host, b'{"QueueUrls": []}', path) as (proxies, proxy):
        keys = StaticCredentials("key", "secret")
        async with AwsClient("us-east-1", None, keys, proxies=proxies) as aws:
            assert await aws.call("sqs", "ListQueues", {}) == {"QueueUrls": []}

    assert proxy.asked == [f"CONNECT {host}:443 HTTP/1.1"]


async def test_a_proxy_that_is_down_is_named_without_its_password() -> None:
    port = free_port()
    proxies = Proxies.from_env({"HTTPS_PROXY": f"http://name:canary@127.0.0.1:{port}"})
    async with GatewayClient("https://gateway.test", proxies=proxies) as gateway:
        with pytest.raises(GatewayUnreachable, match=f"proxy http://127.0.0.1:{port}") as failed:
            await asyncio.wait_for(gateway.leave("provider"), 60)

    assert "canary" not in str(failed.value)


def test_the_environment_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {
        "INFERLINE_BASE_URL": "https://gateway.test",
        "OPENAI_BASE_URL": "http://127.0.0.1:8001",
        "https_proxy": "http://name:canary@proxy.test:3128",
        "NO_PROXY": ".corp.test",
    }
    settings = read([], environ)

    assert settings.proxies == Proxies("", environ["https_proxy"], ".corp.test")
    assert "canary" not in repr(settings)
