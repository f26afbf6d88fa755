"""The contenders of the failover part: each in front of two servers of its own, and its clients."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from bench.dispatch.real import ask_to_end, enrolled
from bench.failures.failing_backend import ATTEMPTS_PATH
from bench.failures.failover_scenes import Attempt, Reply
from bench.harness.backend import MODEL
from bench.harness.loader import chat
from bench.harness.machine import LITELLM_PYTHON
from bench.harness.processes import AWS_ENVIRONMENT, BenchError, free_port, python, running
from bench.harness.stack import LITELLM_ENVIRONMENT, PEERS, emulator

#: How long either of them may wait for a server: for the first of an answer, and for more of it.
LIMIT_SECONDS = 10
SLOTS = 4
#: Behind a scene a good request is to be answered in this time.
ALIVE_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Line:
    """A router before two servers."""

    url: str
    servers: tuple[str, str]
    #: The place of the server that an answer's headers name; None for none.
    named: Callable[[Mapping[str, str]], int | None]


@asynccontextmanager
async def servers(*, continues: bool) -> AsyncIterator[tuple[str, str]]:
    """Yield two servers that fail as they are asked to."""
    ports = free_port(), free_port()
    first, second = (f"http://127.0.0.1:{port}" for port in ports)
    flags = [] if continues else ["--refuse-continuing"]
    command = python("bench.failures.failing_backend", *flags, *map(str, ports))
    async with running("servers", command, ready_url=f"{second}/health"):
        yield first, second


@asynccontextmanager
async def inferline(*, continues: bool) -> AsyncIterator[Line]:
    """Yield a gateway, an emulator of AWS and two providers, each a process of its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(servers(continues=continues))
        aws_url, _ = await stack.enter_async_context(emulator())
        environment = {**AWS_ENVIRONMENT, "AWS_ENDPOINT_URL": aws_url}
        limits = {
            "INFERLINE_LOG_LEVEL": "warning",
            "INFERLINE_FIRST_BYTE_SECONDS_MAX": str(LIMIT_SECONDS),
            "INFERLINE_GAP_SECONDS_MAX": str(LIMIT_SECONDS),
        }
        gateway = python("inferline", "gateway", "--host", "127.0.0.1", "--port", str(port))
        ready = f"{url}/v1/health"
        await stack.enter_async_context(
            running("gateway", gateway, environment={**environment, **limits}, ready_url=ready)
        )
        providers = []
        for place, backend in enumerate(urls):
            flags = ["--base-url", url, "--backend", backend, "--slots", str(SLOTS)]
            command = python("inferline_provider", *flags, "--id", f"bench-{place}")
            one = running(f"provider {place}", command, environment=environment)
            providers.append(await stack.enter_async_context(one))
        # Both at once, since each that ends waits for its receives.
        stack.callback(ask_to_end, providers)
        await enrolled(url, providers)
        yield Line(url, urls, _provider)


def _provider(headers: Mapping[str, str]) -> int | None:
    provider = headers.get("x-inferline-provider", "")
    return int(provider.removeprefix("bench-")) if provider.startswith("bench-") else None


@asynccontextmanager
async def litellm() -> AsyncIterator[Line]:
    """Yield LiteLLM's proxy as `bench/peers/litellm-failover.yaml` has it."""
    if not LITELLM_PYTHON.exists():
        raise BenchError("LiteLLM is not installed; `make bench` installs it")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    config = str(PEERS / "litellm-failover.yaml")
    command = [str(LITELLM_PYTHON.with_name("litellm")), "--config", config]
    command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    async with servers(continues=True) as urls:
        environment = {
            **LITELLM_ENVIRONMENT,
            "BENCH_FIRST_URL": f"{urls[0]}/v1",
            "BENCH_SECOND_URL": f"{urls[1]}/v1",
        }
        ready = f"{url}/health/readiness"
        async with running("litellm", command, environment=environment, ready_url=ready):
            yield Line(url, urls, lambda headers: _address(headers, urls))


def _address(headers: Mapping[str, str], urls: tuple[str, str]) -> int | None:
    address = headers.get("x-litellm-model-api-base", "")
    return next((place for place, url in enumerate(urls) if address.startswith(url)), None)


async def attempts(line: Line, name: str) -> list[Attempt]:
    """Return how the servers were asked in a try, and by nobody else since the last look."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(line.servers[0] + ATTEMPTS_PATH) as response,
    ):
        log = await response.json()
    return [Attempt(one["server"], one["at"]) for one in log if one["try"] == name]


async def ask(
    line: Line, name: str, *, stream: bool, seconds_max: float, model: str = MODEL
) -> Reply:
    """Return what a client is told that asks for a try, and gives up after so long."""
    content = f"[{name}] Explain why a router earns trust only when a server behind it fails."
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    begun = time.monotonic()
    reading = Reading()
    status, server, error, hung = 0, None, None, False
    timeout = aiohttp.ClientTimeout(total=seconds_max)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(chat(line.url), json=body) as response,
        ):
            status, server = response.status, line.named(response.headers)
            if response.content_type == "text/event-stream":
                async for piece in response.content:
                    reading.line(piece)
            else:
                reading.whole(await response.read(), status)
    except TimeoutError:
        hung = True
    except (aiohttp.ClientError, OSError) as failed:
        error = f"a broken connection: {type(failed).__name__}"
    return Reply(
        seconds=round(time.monotonic() - begun, 3),
        status=status,
        text=reading.text,
        error=reading.error or error,
        hung=hung,
        garbage=reading.garbage,
        usage=reading.usage,
        server=server,
    )


class Reading:
    """An answer as a client reads it, event by event."""

    def __init__(self) -> None:
        self.text = ""
        self.error: str | None = None
        self.garbage = False
        self.usage: dict[str, Any] | None = None

    def line(self, line: bytes) -> None:
        """Take a line of a stream."""
        data = line.removeprefix(b"data:").strip()
        if data == line.strip() or data == b"[DONE]":
            return
        document = self._parsed(data)
        if "error" in document:
            self.error = self.error or _message(document["error"])
        self._read(document, "delta")

    def whole(self, body: bytes, status: int) -> None:
        """Take a body that is not streamed."""
        document = self._parsed(body)
        if status != 200 or "error" in document:
            self.error = _message(document.get("error", f"status {status}"))
        self._read(document, "message")

    def _read(self, document: dict[str, Any], where: str) -> None:
        for choice in document.get("choices") or []:
            self.text += (choice.get(where) or {}).get("content") or ""
        if isinstance(document.get("usage"), dict):
            self.usage = document["usage"]

    def _parsed(self, data: bytes) -> dict[str, Any]:
        try:
            document = json.loads(data)
        except ValueError:
            document = None
        self.garbage |= not isinstance(document, dict)
        return document if isinstance(document, dict) else {}


def _message(error: object) -> str:
    """Return what an error says, with its code."""
    if not isinstance(error, dict):
        return str(error)
    return f"{error.get('code') or error.get('type')}: {error.get('message')}"[:300]
