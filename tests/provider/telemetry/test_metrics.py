"""Prometheus metrics of a provider."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from inferline.clock import SystemClock
from inferline.memory.tasks import MemoryStore
from inferline.options import SettingsError
from inferline.tasks.store import AttemptOutcome
from inferline_provider import cli
from inferline_provider.telemetry.attempts import AttemptTelemetry, Telemetry, TelemetrySink
from inferline_provider.telemetry.metrics import ProviderMetrics, serving
from inferline_provider.telemetry.status import ProviderStatus, ReadStatus
from tests.provider.batch import shards
from tests.provider.command import read
from tests.provider.world import World, until, world
from tests.support.backend import Backend
from tests.support.prometheus import value
from tests.support.script import Script
from tests.support.seams import new_task

MODEL = {"gen_ai_request_model": "test-model"}
CHAT = {"gen_ai_operation_name": "chat", **MODEL}
CANARY = "canary-of-a-prompt"
QUICK = Script(first=0.01, interval=0.005, tokens=4)
GIVEN = {"INFERLINE_BASE_URL": "http://gateway:8000", "OPENAI_BASE_URL": "http://llm:8001"}


def idle() -> ProviderStatus:
    return ProviderStatus(1, 0, healthy=True)


@asynccontextmanager
async def measured(backend: Backend) -> AsyncIterator[tuple[World, ProviderMetrics]]:
    """Run a provider that has metrics."""
    opened: list[ProviderMetrics] = []

    @asynccontextmanager
    async def open_sink(status: ReadStatus) -> AsyncIterator[TelemetrySink]:
        opened.append(ProviderMetrics(status, lambda: {("sqs", "ReceiveMessage"): 7}))
        yield opened[0]

    async with world(backend, open_sink=open_sink) as around:
        yield around, opened[0]


async def scraped(metrics: ProviderMetrics) -> str:
    async with serving(metrics, "127.0.0.1", 0) as port, httpx.AsyncClient(timeout=60) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
    assert 200 == answer.status_code
    return answer.text


async def test_a_stream_is_told_with_its_times_and_its_tokens() -> None:
    async with measured(Backend(script=QUICK)) as (around, metrics):
        request = {"stream": True, "stream_options": {"include_usage": True}}
        await around.ended(await around.submit(request))
        await until(lambda: metrics._attempts._metrics)

        text = await scraped(metrics)

    assert 1 == value(text, "gen_ai_client_operation_duration_seconds_count", **CHAT)
    name = "gen_ai_client_operation_time_to_first_chunk_seconds"
    assert 1 == value(text, f"{name}_count", **CHAT)
    assert 0.005 < (value(text, f"{name}_sum", **CHAT) or 0) < 1
    assert 1 == value(text, "gen_ai_server_time_per_output_token_seconds_count", **CHAT)
    output = {**CHAT, "gen_ai_token_type": "output"}
    assert 4 == value(text, "gen_ai_client_token_usage_sum", **output)
    assert 1 == value(text, "inferline_attempts_total", **MODEL, ending="answered")
    assert 1 == value(text, "inferline_claim_wait_seconds_count", **MODEL, tier="default")


async def test_a_backend_that_fails_is_told_with_how_the_attempt_ended() -> None:
    async with measured(Backend()) as (around, metrics):
        await around.submit({"x_script": {"status": 500}}, attempts=1)
        await until(lambda: metrics._attempts._metrics)

        text = await scraped(metrics)

    assert 1 == value(text, "inferline_attempts_total", **MODEL, ending="failed")
    name = "gen_ai_client_operation_duration_seconds_count"
    assert 1 == value(text, name, **CHAT, error_type="Broken")


async def test_a_client_that_has_gone_is_told_as_an_ended_attempt() -> None:
    slow = Backend(script=Script(first=0.01, interval=0.05, tokens=400))
    async with measured(slow) as (around, metrics):
        task = await around.submit({"stream": True})
        await until(lambda: around.backend.running)
        await around.store.cancel(task.ref)
        await until(lambda: metrics._attempts._metrics)

        text = await scraped(metrics)

    assert 1 == value(text, "inferline_attempts_total", **MODEL, ending="ended")


async def test_slots_health_and_calls_are_told_as_they_stand() -> None:
    async with measured(Backend(slots=4)) as (_, metrics):
        text = await scraped(metrics)

    assert (4, 0, 1) == tuple(
        value(text, f"inferline_provider_{name}")
        for name in ("slots", "slots_used", "backend_healthy")
    )
    called = {"service": "sqs", "operation": "ReceiveMessage"}
    assert 7 == value(text, "inferline_aws_calls_total", **called)


async def test_no_word_of_what_was_asked_is_told() -> None:
    async with measured(Backend(script=QUICK)) as (around, metrics):
        request = {"messages": [{"role": "user", "content": CANARY}], "user": CANARY}
        task = await around.submit(request)
        await around.ended(task)
        await until(lambda: metrics._attempts._metrics)

        text = await scraped(metrics)

    assert [] == [word for word in (CANARY, task.ref.id, task.body_sha256) if word in text]


@pytest.mark.parametrize("count", [-1, 10**400])
def test_a_backend_that_counts_nonsense_is_not_believed(count: int) -> None:
    metrics, store = ProviderMetrics(idle, dict), MemoryStore()
    telemetry = Telemetry(sink=metrics)
    attempt = AttemptTelemetry(telemetry, new_task(store), "p1", SystemClock(), store.now_ms)

    with attempt.asking():
        attempt.answered(
            AttemptOutcome(status=200, usage={"prompt_tokens": count, "output_tokens": 2})
        )
    attempt.ended("answered")

    families = [each for each in metrics.collect() if each.name == "gen_ai_client_token_usage"]
    kinds = {sample.labels["gen_ai_token_type"] for family in families for sample in family.samples}
    assert {"output"} == kinds


def test_a_provider_opens_no_port_unless_it_is_asked_to() -> None:
    settings = read([], GIVEN)

    assert settings.metrics_port is None


def test_a_port_is_open_to_this_machine_only_unless_it_is_said_otherwise() -> None:
    alone = read([], {**GIVEN, "METRICS_PORT": "9101"})
    other = read(["--metrics-port", "0", "--metrics-host", "0.0.0.0"], GIVEN)

    assert (9101, "127.0.0.1") == (alone.metrics_port, alone.metrics_host)
    assert (0, "0.0.0.0") == (other.metrics_port, other.metrics_host)


@pytest.mark.parametrize("text", ["70000", "-1", "http"])
def test_a_port_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(
        SettingsError, match=r"METRICS_PORT .* must be a whole number from 0 to 65535"
    ):
        read([], {**GIVEN, "METRICS_PORT": text})


def test_a_taken_port_ends_the_start_with_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("METRICS_PORT", str(taken.getsockname()[1]))
        for name, text in GIVEN.items():
            monkeypatch.setenv(name, text)

        code = cli.main([])

    assert 2 == code
    assert "METRICS_PORT (--metrics-port) can't be used" in capsys.readouterr().err


async def test_lines_of_batches_are_counted() -> None:
    async with measured(Backend(script=QUICK)) as (around, metrics):
        refused = {"x_script": {"status": 400}}
        task = await shards.submit(around, [shards.line(0), shards.line(1, refused)])
        await around.ended(task)

        text = await scraped(metrics)

    assert 1 == value(text, "inferline_batch_lines_total", **MODEL, event="answered")
    assert 1 == value(text, "inferline_batch_lines_total", **MODEL, event="refused")
