"""The contenders: InferLine with its emulator, LiteLLM's proxy, the backend that both ask."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from bench.harness.backend import MODEL
from bench.harness.machine import LITELLM_PYTHON
from bench.harness.processes import (
    AWS_ENVIRONMENT,
    ROOT,
    BenchError,
    Running,
    answers,
    free_port,
    python,
    running,
)

PEERS = Path(__file__).parents[1] / "peers"

#: What InferLine is called in tables, and what with AWS's latencies.
OURS, FAR, PEER, DIRECT = "InferLine", "InferLine, far", "LiteLLM", "direct"

#: As its page on production has it, with no look at the internet; see `peers/litellm.yaml`.
LITELLM_ENVIRONMENT = {
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "NO_DOCS": "True",
}

#: The header by which a function knows who asks.
CALLER = {
    "x-amzn-request-context": json.dumps(
        {"authorizer": {"keyId": "k", "tenant": "bench", "role": "client", "models": "*"}}
    )
}

#: `calls` and `items` of batches, by operation.
Calls = dict[str, dict[str, int]]
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that answers chat completions; ``router`` is the process that is compared."""

    name: str
    url: str
    router: Running


@dataclass(frozen=True, slots=True)
class InferLine(Contender):
    """A gateway and a provider, on an emulator of AWS."""

    provider: Running
    emulator: Running | None
    aws_url: str


@asynccontextmanager
async def backend(
    *,
    first: float = 0.05,
    sway: float = 0.0,
    per_second: float = 25.0,
    tokens: int = 32,
    vary: float = 0.0,
    prose: bool = False,
) -> AsyncIterator[Contender]:
    """Yield the scripted LLM server; see `bench.harness.backend.Script`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flags = {
        "--port": port,
        "--first-token-seconds": first,
        "--first-token-sway-seconds": sway,
        "--tokens-per-second": per_second,
        "--tokens": tokens,
        "--vary": vary,
    }
    options = [str(part) for flag in flags.items() for part in flag]
    command = python("bench.harness.backend", *options)
    command += ["--prose"] if prose else []
    async with running("backend", command, ready_url=f"{url}/health") as process:
        yield Contender(DIRECT, url, process)


@asynccontextmanager
async def emulator(*, far: bool = False) -> AsyncIterator[tuple[str, Running]]:
    """
    Yield the AWS emulator of the one-machine mode, without state on disk; far: as late as AWS.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = python("bench.harness.emulator", "--port", str(port), *(["--far"] if far else []))
    ready = f"{url}/_ministack/health"
    async with running(
        "emulator", command, environment=AWS_ENVIRONMENT, ready_url=ready
    ) as process:
        yield url, process


@asynccontextmanager
async def inferline(
    backend_url: str,
    *,
    slots: int | None,
    aws_url: str | None = None,
    settings: Mapping[str, str] | None = None,
    far: bool = False,
) -> AsyncIterator[InferLine]:
    """
    Yield a gateway and a provider as an operator starts them; ``aws_url`` None: an own emulator.

    ``slots`` None: the provider is to find them. ``settings`` are further ones of the gateway, by
    their environment names; ``far`` makes the own emulator as late as AWS.
    """
    if aws_url is None:
        async with (
            emulator(far=far) as (url, process),
            _inferline(backend_url, slots, url, process, settings or {}) as contender,
        ):
            yield replace(contender, name=FAR) if far else contender
    else:
        async with _inferline(backend_url, slots, aws_url, None, settings or {}) as contender:
            yield contender


@asynccontextmanager
async def _inferline(
    backend_url: str,
    slots: int | None,
    aws_url: str,
    aws: Running | None,
    settings: Mapping[str, str],
) -> AsyncIterator[InferLine]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**AWS_ENVIRONMENT, "AWS_ENDPOINT_URL": aws_url}
    quiet = {**environment, "INFERLINE_LOG_LEVEL": "warning", **settings}
    gateway = python("inferline", "gateway", "--host", "127.0.0.1", "--port", str(port))
    ready = f"{url}/v1/health"
    async with (
        running("gateway", gateway, environment=quiet, ready_url=ready) as gateway_process,
        provider(url, backend_url, slots=slots, aws_url=aws_url) as provider_process,
    ):
        yield InferLine(OURS, url, gateway_process, provider_process, aws, aws_url)


@asynccontextmanager
async def provider(
    gateway_url: str,
    backend_url: str,
    *,
    slots: int | None,
    aws_url: str,
    name: str = "bench-provider",
) -> AsyncIterator[Running]:
    """Yield a provider that serves a backend's model at a gateway."""
    flags = ["--base-url", gateway_url, "--backend", backend_url]
    flags += [] if slots is None else ["--slots", str(slots)]
    command = python("inferline_provider", *flags, "--id", name)
    environment = {**AWS_ENVIRONMENT, "AWS_ENDPOINT_URL": aws_url}
    async with running("provider", command, environment=environment) as process:
        await answers(f"{gateway_url}/v1/models", process, MODEL.encode())
        yield process


@asynccontextmanager
async def litellm(backend_url: str, *, server: str = "uvicorn") -> AsyncIterator[Contender]:
    """Yield LiteLLM's proxy as `bench/peers/litellm.yaml` has it; ``server`` may be `granian`."""
    if not LITELLM_PYTHON.exists():
        raise BenchError("LiteLLM is not installed; `make bench` installs it")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(LITELLM_PYTHON.with_name("litellm")), "--config", str(PEERS / "litellm.yaml")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    command += ["--run_granian"] if server == "granian" else []
    environment = {**LITELLM_ENVIRONMENT, "BENCH_BACKEND_URL": f"{backend_url}/v1"}
    ready = f"{url}/health/readiness"
    async with running("litellm", command, environment=environment, ready_url=ready) as process:
        yield Contender(PEER if server == "uvicorn" else f"{PEER}, {server}", url, process)


@asynccontextmanager
async def function(aws_url: str, settings: Mapping[str, str]) -> AsyncIterator[Contender]:
    """
    Yield the function that waits for answers on AWS, as the Lambda Web Adapter starts it.

    It takes those who bring `CALLER`, as API Gateway says of whom its authorizer let in.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {"AWS_ENDPOINT_URL": aws_url, "AWS_LWA_PORT": str(port), "INFERLINE_ACCESS": "keys"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**AWS_ENVIRONMENT, **settings, **variables, "PATH": path}
    command = ["sh", str(ROOT / "functions/run.sh")]
    ready = f"{url}/v1/health"
    async with running("function", command, environment=environment, ready_url=ready) as process:
        yield Contender("function", url, process)


async def calls(aws_url: str) -> Calls:
    """Return what an emulator has been called for since it started."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{aws_url}/_bench/calls") as response,
    ):
        counts: Calls = await response.json()
        return counts


async def spans(backend_url: str) -> list[Span]:
    """
    Return when each answer since the last look began and ended, milliseconds of the backend's
    clock.
    """
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{backend_url}/_bench/spans") as response,
    ):
        return [(round(start, 1), round(end, 1)) for start, end in await response.json()]
