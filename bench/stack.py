"""The contenders: InferLine with its emulator, LiteLLM's proxy, the backend that both ask."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.backend import MODEL
from bench.machine import LITELLM_PYTHON
from bench.processes import (
    AWS_ENVIRONMENT,
    BenchError,
    Running,
    answers,
    free_port,
    python,
    running,
)


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
    *, first: float = 0.05, sway: float = 0.0, per_second: float = 25.0, tokens: int = 32
) -> AsyncIterator[Contender]:
    """The scripted LLM server: seconds to its first token, tokens a second (0: all at once)."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flags = {
        "--port": port,
        "--first-token-seconds": first,
        "--first-token-sway-seconds": sway,
        "--tokens-per-second": per_second,
        "--tokens": tokens,
    }
    command = python("bench.backend", *(str(part) for flag in flags.items() for part in flag))
    async with running("backend", command, ready_url=f"{url}/health") as process:
        yield Contender("direct", url, process)


@asynccontextmanager
async def emulator() -> AsyncIterator[tuple[str, Running]]:
    """The AWS emulator of the one-machine mode, without state on disk."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = python("inferline.local.emulator", "--port", str(port))
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
) -> AsyncIterator[InferLine]:
    """
    A gateway and a provider as an operator starts them; ``aws_url`` None: an own emulator.

    ``slots`` None: the provider is to find them. ``settings`` are further ones of the gateway, by
    their environment names.
    """
    if aws_url is None:
        async with (
            emulator() as (url, process),
            _inferline(backend_url, slots, url, process, settings or {}) as found,
        ):
            yield found
    else:
        async with _inferline(backend_url, slots, aws_url, None, settings or {}) as found:
            yield found


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
    flags = ["--base-url", url, "--backend", backend_url]
    flags += [] if slots is None else ["--slots", str(slots)]
    provider = python("inferline_provider", *flags, "--id", "bench-provider")
    ready = f"{url}/v1/health"
    async with (
        running("gateway", gateway, environment=quiet, ready_url=ready) as gateway_process,
        running("provider", provider, environment=environment) as provider_process,
    ):
        await answers(f"{url}/v1/models", provider_process, MODEL.encode())
        yield InferLine("InferLine", url, gateway_process, provider_process, aws, aws_url)


@asynccontextmanager
async def litellm(backend_url: str, *, server: str = "uvicorn") -> AsyncIterator[Contender]:
    """LiteLLM's proxy at its fastest: one worker, no database, no callbacks, errors logged only."""
    if not LITELLM_PYTHON.exists():
        raise BenchError("LiteLLM is not installed; `make bench` installs it")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="inferline-bench-") as folder:
        config = Path(folder) / "config.yaml"
        # JSON is YAML.
        config.write_text(json.dumps(_litellm_config(backend_url)))
        command = [str(LITELLM_PYTHON.with_name("litellm")), "--config", str(config)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        command += ["--run_granian"] if server == "granian" else []
        environment = {
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "NO_DOCS": "True",
        }
        ready = f"{url}/health/readiness"
        async with running("litellm", command, environment=environment, ready_url=ready) as process:
            yield Contender("LiteLLM", url, process)


def _litellm_config(backend_url: str) -> object:
    target = {
        # Its own client for OpenAI-compatible servers; the one called `openai` costs it more.
        "model": f"hosted_vllm/{MODEL}",
        "api_base": f"{backend_url}/v1",
        "api_key": "none",
    }
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": target}],
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "litellm_settings": {
            "telemetry": False,
            "num_retries": 0,
            "callbacks": [],
            "success_callback": [],
            "failure_callback": [],
            "turn_off_message_logging": True,
        },
        "general_settings": {
            "disable_spend_logs": True,
            "disable_error_logs": True,
            # No keys to check: nor does InferLine's gateway check any here.
            "dangerously_permit_weak_or_unset_master_key": True,
        },
    }
