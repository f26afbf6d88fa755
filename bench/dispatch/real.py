"""A trace played to real processes: InferLine or LiteLLM's proxy before the same LLM servers."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench.dispatch.backend import BEGUN_PATH
from bench.dispatch.trace import Fate, Host, Request, Trace
from bench.harness.backend import MODEL
from bench.harness.loader import chat
from bench.harness.machine import LITELLM_PYTHON
from bench.harness.processes import (
    AWS_ENVIRONMENT,
    START_SECONDS_MAX,
    BenchError,
    Running,
    free_port,
    python,
    running,
)
from bench.harness.stack import LITELLM_ENVIRONMENT, emulator

#: A client gives up after so long; a request that no slot began with counts as having waited it.
PATIENCE_SECONDS = 60.0
#: Time is scaled down, and so is the time between two heartbeats of a provider.
ENROL_SECONDS = 2
#: LiteLLM's strategies, each with what its page on routing has for it: a buffer, so that not all
#: goes to the fastest alone, and a short memory.
STRATEGIES: dict[str, dict[str, Any]] = {
    "simple-shuffle": {},
    "least-busy": {},
    "latency-based-routing": {"ttl": 10, "lowest_latency_buffer": 0.5},
    "usage-based-routing": {},
    "usage-based-routing-v2": {},
}


@dataclass(frozen=True, slots=True)
class Played:
    """Results of a trace."""

    fates: list[Fate]
    #: Requests that were not answered with a 200.
    failed: int


@asynccontextmanager
async def servers(fleet: Sequence[Host]) -> AsyncIterator[list[str]]:
    """Yield a fleet of LLM servers, by their addresses."""
    ports = [free_port() for _ in fleet]
    hosts = [
        f"{port}:{host.slots}:{host.tokens_per_second}"
        for port, host in zip(ports, fleet, strict=True)
    ]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    command = python("bench.dispatch.backend", *hosts)
    async with running("servers", command, ready_url=f"{urls[-1]}/health"):
        yield urls


@asynccontextmanager
async def inferline(
    urls: Sequence[str], fleet: Sequence[Host], *, is_aware: bool = True
) -> AsyncIterator[str]:
    """
    Yield a gateway, an emulator of AWS, and a provider for each server, each a process of its own.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    module = "inferline_provider" if is_aware else "bench.dispatch.indifferent"
    async with AsyncExitStack() as stack:
        aws_url, _ = await stack.enter_async_context(emulator())
        environment = {**AWS_ENVIRONMENT, "AWS_ENDPOINT_URL": aws_url}
        quiet = {
            **environment,
            "INFERLINE_LOG_LEVEL": "warning",
            "INFERLINE_ENROL_SECONDS": str(ENROL_SECONDS),
        }
        gateway = python("inferline", "gateway", "--host", "127.0.0.1", "--port", str(port))
        ready = f"{url}/v1/health"
        started = running("gateway", gateway, environment=quiet, ready_url=ready)
        await stack.enter_async_context(started)
        providers = []
        for number, (backend, host) in enumerate(zip(urls, fleet, strict=True)):
            flags = ["--base-url", url, "--backend", backend, "--slots", str(host.slots)]
            command = python(module, *flags, "--id", f"bench-{number}", "--log-level", "warning")
            one = running(f"provider {number}", command, environment=environment)
            providers.append(await stack.enter_async_context(one))
        # All at once, since each that ends waits for its receives.
        stack.callback(ask_to_end, providers)
        await enrolled(url, providers)
        yield url


@asynccontextmanager
async def litellm(urls: Sequence[str], fleet: Sequence[Host], strategy: str) -> AsyncIterator[str]:
    """
    Yield LiteLLM's proxy with one of its strategies: one worker, no database, errors logged only.
    """
    if not LITELLM_PYTHON.exists():
        raise BenchError("LiteLLM is not installed; `make bench` installs it")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="inferline-bench-") as folder:
        config = Path(folder) / "config.yaml"
        # JSON is YAML.
        config.write_text(json.dumps(litellm_config(urls, fleet, strategy)))
        command = [str(LITELLM_PYTHON.with_name("litellm")), "--config", str(config)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        ready = f"{url}/health/readiness"
        async with running("litellm", command, environment=LITELLM_ENVIRONMENT, ready_url=ready):
            yield url


def litellm_config(urls: Sequence[str], fleet: Sequence[Host], strategy: str) -> dict[str, Any]:
    """
    Return its configuration, with what its pages advise for a strategy.

    Shuffled are servers by their ``weight``, here what each can do. Those that go by usage need to
    know how much that may be, ``tpm``, else they would use the slowest as much as the fastest; from
    that it would also make a limit of requests at once, so ``max_parallel_requests`` is told.
    """
    models = []
    for url, host in zip(urls, fleet, strict=True):
        params: dict[str, Any] = {
            "model": f"hosted_vllm/{MODEL}",
            "api_base": f"{url}/v1",
            "api_key": "none",
            "weight": host.capacity,
        }
        if strategy.startswith("usage"):
            params |= {"tpm": round(host.capacity * 60), "max_parallel_requests": 100_000}
        models.append({"model_name": MODEL, "litellm_params": params})
    return {
        "model_list": models,
        "router_settings": {
            "routing_strategy": strategy,
            "routing_strategy_args": STRATEGIES[strategy],
            "num_retries": 0,
            "disable_cooldowns": True,
        },
        "litellm_settings": {"telemetry": False, "num_retries": 0},
        "general_settings": {
            "disable_spend_logs": True,
            "disable_error_logs": True,
            # No keys to check: nor does InferLine's gateway check any here.
            "dangerously_permit_weak_or_unset_master_key": True,
        },
    }


async def play(url: str, servers_url: str, trace: Trace) -> Played:
    """Send the requests of a trace when it is time, whatever becomes of those before."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        await (await session.get(servers_url + BEGUN_PATH)).read()
        start = time.monotonic() + 0.5
        calls = [
            asyncio.create_task(_ask(session, url, number, request, start))
            for number, request in enumerate(trace.requests)
        ]
        times = [await call for call in calls]
        async with session.get(servers_url + BEGUN_PATH) as response:
            begun = {number: (at, host) for number, at, host in await response.json()}
    fates = []
    for number, (sent, ended) in enumerate(times):
        at, host = begun.get(number, (sent + PATIENCE_SECONDS, 0))
        fates.append(Fate(at - sent, (ended or sent + PATIENCE_SECONDS) - sent, host))
    return Played(fates, sum(ended is None for _, ended in times))


async def _ask(
    session: aiohttp.ClientSession, url: str, number: int, request: Request, start: float
) -> tuple[float, float | None]:
    """Return when a request was sent, and when it was answered; None if it was not."""
    await asyncio.sleep(start + request.at - time.monotonic())
    content = f"{number} {request.tokens}"
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
    sent = time.monotonic()
    try:
        async with session.post(chat(url), json=body) as response:
            await response.read()
            return sent, time.monotonic() if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError):
        return sent, None


async def enrolled(url: str, providers: Sequence[Running]) -> None:
    """Return once all providers are listed."""
    patience = time.monotonic() + START_SECONDS_MAX
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < patience:
            for one in providers:
                one.check()
            async with session.get(f"{url}/v1/providers") as response:
                if len((await response.json())["data"]) == len(providers):
                    return
            await asyncio.sleep(0.1)
    raise BenchError(f"not all providers enrolled in {START_SECONDS_MAX:g} s")


def ask_to_end(processes: Sequence[Running]) -> None:
    """Have processes end at the same time, who would be waited for one after another."""
    for one in processes:
        one.process.send_signal(signal.SIGTERM)
