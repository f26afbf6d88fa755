"""What an operator's own tools see of a real line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.support.emulators import free_port
from tests.support.line import MODEL, Line, empty_line, until
from tests.support.otlp import Receiver, receiving
from tests.support.prometheus import value

PATH = "/v1/chat/completions"
CANARY = "canary-of-a-prompt"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CHAT = {"gen_ai_operation_name": "chat", "gen_ai_request_model": MODEL}


@dataclass
class Watched:
    """A line that is watched, after one request."""

    line: Line
    collector: Receiver
    provider_url: str
    task: str


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": CANARY}], "stream": True}
    with receiving() as collector, empty_line() as line:
        line.environ |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        line.start_gateway()
        line.start_backend()
        port = free_port()
        line.start_provider("p1", None, "--slots", "4", "--metrics-port", str(port))
        traceparent = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
        answer = httpx.post(line.url + PATH, json=body, headers=traceparent, timeout=60)
        assert 200 == answer.status_code, answer.text
        url = f"http://127.0.0.1:{port}"
        yield Watched(line, collector, url, answer.headers["x-request-id"])


def test_both_sides_tell_prometheus_of_a_request(watched: Watched) -> None:
    count = "gen_ai_client_operation_duration_seconds_count"

    gateway = httpx.get(f"{watched.line.url}/metrics", timeout=60).text
    provider = until(
        lambda: (
            value(
                text := httpx.get(f"{watched.provider_url}/metrics", timeout=60).text, count, **CHAT
            )
            and text
        ),
        "the attempt is told",
    )

    assert 1 == value(gateway, "gen_ai_server_request_duration_seconds_count", **CHAT)
    assert 1 == value(provider, count, **CHAT)
    sent = {"service": "sqs", "operation": "SendMessage"}
    assert 1 == value(gateway, "inferline_aws_calls_total", **sent)
    taken = {"service": "sqs", "operation": "ReceiveMessage"}
    assert value(provider, "inferline_aws_calls_total", **taken)
    assert CANARY not in gateway + provider


def test_a_collector_gets_one_trace_of_both_sides(watched: Watched) -> None:
    until(lambda: len(watched.collector.spans) >= 4, "four spans are exported")

    spans = watched.collector.spans
    assert {TRACE} == {span.trace_id for span in spans}
    assert ["attempt", f"chat {MODEL}", f"chat {MODEL}", "queue wait"] == sorted(
        span.name for span in spans
    )
    assert {"inferline-gateway", "inferline-provider"} == {span.service for span in spans}
    assert watched.task == watched.collector.named("attempt").attributes["inferline.task"]
    assert CANARY.encode() not in b"".join(watched.collector.raw)
