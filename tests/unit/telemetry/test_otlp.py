"""Traces are exported to who has set up a collector, and to nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from inferline.settings import SettingsError
from inferline.telemetry.otlp import ENDPOINT, PROTOCOL, tracing
from inferline.telemetry.trace import NO_TRACER, TraceParent
from tests.support.otlp import Receiver, receiving

PARENT = TraceParent("a" * 32, "b" * 16)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as receiver:
        monkeypatch.setenv(ENDPOINT, receiver.url)
        yield receiver


def test_without_a_collector_nothing_is_kept_and_nothing_of_the_sdk_is_loaded() -> None:
    look = (
        "import sys, inferline.gateway.server, inferline.cli, inferline_provider.cli\n"
        "from inferline.telemetry.otlp import tracing\n"
        "from inferline.telemetry.trace import NO_TRACER\n"
        "with tracing({}, 's') as tracer: assert tracer is NO_TRACER\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'google.protobuf',"
        " 'opentelemetry.exporter', 'inferline_provider.telemetry.metrics'))])\n"
    )

    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)

    assert ("[]\n", "") == (done.stdout, done.stderr)


def test_a_disabled_sdk_keeps_nothing() -> None:
    with tracing({ENDPOINT: "http://x", "OTEL_SDK_DISABLED": "true"}, "s") as tracer:
        assert NO_TRACER is tracer


def test_a_collector_without_the_extra_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(SettingsError, match=r"pip install 'inferline\[otel\]'"):
        tracing({ENDPOINT: "http://127.0.0.1:4318"}, "s").__enter__()


def test_another_protocol_is_refused_instead_of_overlooked() -> None:
    with pytest.raises(SettingsError, match="must be http/protobuf, got 'grpc'"):
        tracing({ENDPOINT: "http://x", PROTOCOL: "grpc"}, "s").__enter__()


def test_a_span_is_exported_under_its_parent_with_its_times(receiver: Receiver) -> None:
    with tracing({ENDPOINT: receiver.url}, "a-service") as tracer:
        span = tracer.begin("client", PARENT, 1_000)
        span.end("a name", 3_500, {"n": 1, "empty": ""}, "a_code")

    span_received = receiver.named("a name")
    assert ("a-service", PARENT.trace_id, PARENT.span_id) == (
        span_received.service,
        span_received.trace_id,
        span_received.parent_id,
    )
    assert (1_000, 3_500, True) == (
        span_received.start_ms,
        span_received.end_ms,
        span_received.failed,
    )
    assert {"n": 1, "error.type": "a_code"} == span_received.attributes
    assert str(span.context) == f"00-{span_received.trace_id}-{span_received.span_id}-01"


def test_a_clients_own_mistake_does_not_fail_the_servers_span(receiver: Receiver) -> None:
    with tracing({ENDPOINT: receiver.url}, "s") as tracer:
        for status in (404, 502):
            span = tracer.begin("server", None, 0)
            span.end(f"was {status}", 1, {"http.response.status_code": status}, "a_code")

    assert not receiver.named("was 404").failed
    assert receiver.named("was 502").failed


def test_a_trace_that_its_client_does_not_keep_is_not_kept_here(receiver: Receiver) -> None:
    with tracing({ENDPOINT: receiver.url}, "s") as tracer:
        span = tracer.begin("server", TraceParent("a" * 32, "b" * 16, sampled=False), 0)
        span.end("unsampled", 1, {})

    assert [] == receiver.spans
    assert not span.context.sampled


def test_a_collector_that_is_not_there_holds_nothing_up_for_long() -> None:
    look = (
        "import time\n"
        "from inferline.telemetry import otlp\n"
        "otlp.FLUSH_SECONDS_MAX = 0.2\n"
        "with otlp.tracing({otlp.ENDPOINT: 'set'}, 's') as tracer:\n"
        "    tracer.begin('server', None, 0).end('n', 1, {})\n"
        "    begun = time.monotonic()\n"
        "print(time.monotonic() - begun < 30)\n"
    )
    environ = {**os.environ, ENDPOINT: "http://127.0.0.1:9"}

    command = [sys.executable, "-c", look]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60)

    assert (0, "True\n") == (done.returncode, done.stdout), done.stderr


def test_the_operators_own_name_of_a_service_wins(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "theirs")

    with tracing({ENDPOINT: receiver.url}, "ours") as tracer:
        tracer.begin("server", None, 0).end("a name", 1, {})

    assert "theirs" == receiver.named("a name").service
