"""One trace from a client through the gateway, the queue and the provider to the backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest

from inferline.tasks.task import Task
from inferline.telemetry.otlp import ENDPOINT, tracing
from inferline.telemetry.trace import NO_TRACER, TraceParent, Tracer
from tests.provider.world import World, world
from tests.support.backend import Backend
from tests.support.gateway import MODEL, Gateway, running_gateway
from tests.support.otlp import Receiver, receiving
from tests.support.script import Script

PATH = "/v1/chat/completions"
CANARY = "canary-of-a-prompt"
KEY = "canary-of-a-key"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": CANARY}]}
CLIENT = TraceParent("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
SERVER, CLIENT_KIND, CONSUMER, INTERNAL = 2, 3, 5, 1
QUICK = Script(first=0.01, interval=0.005, tokens=4)


@asynccontextmanager
async def line(
    tracer: Tracer = NO_TRACER, provider: Tracer = NO_TRACER
) -> AsyncIterator[tuple[Gateway, World]]:
    """Run a gateway and a provider on the same queue, each with its tracer."""
    async with running_gateway(tracer=tracer) as gateway:
        await gateway.know()
        backend = Backend(script=QUICK)
        stores = {"store": gateway.store, "queue": gateway.queue}
        async with world(backend, **stores, tracer=provider) as around:
            yield gateway, around


async def ask(gateway: Gateway, *parents: str, stream: bool = False) -> str:
    """Ask with these `traceparent` headers and return the task's id."""
    headers = [("traceparent", text) for text in parents] + [("authorization", f"Bearer {KEY}")]
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        answer = await client.post(PATH, json={**ASKED, "stream": stream}, headers=headers)
    assert 200 == answer.status_code
    return answer.headers["x-request-id"]


def seen(around: World) -> TraceParent:
    """Return the trace that the backend got."""
    (text,) = around.backend.traceparents
    parent = TraceParent.parse(text)
    assert parent is not None, text
    return parent


async def test_without_a_collector_a_clients_trace_reaches_the_backend_as_it_came() -> None:
    async with line() as (gateway, around):
        await ask(gateway, str(CLIENT))

        assert CLIENT == seen(around)


@pytest.mark.parametrize(
    "parents",
    [(), ("made up",), (str(CLIENT), str(CLIENT)), (f"{CLIENT}-x",)],
    ids=["none", "invalid", "two", "longer"],
)
async def test_a_trace_that_was_not_told_properly_is_a_new_one(parents: tuple[str, ...]) -> None:
    async with line() as (gateway, around):
        await ask(gateway, *parents)

        assert CLIENT.trace_id != seen(around).trace_id


async def test_a_task_of_an_older_gateway_gets_a_trace_at_the_provider() -> None:
    async with world(Backend(script=QUICK)) as around:
        task: Task = await around.submit(traceparent="")
        await around.ended(task)

        assert seen(around)


@contextmanager
def exporting(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tracer]]:
    """Open the tracers of a gateway and a provider; everything is exported when the block ends."""
    monkeypatch.setenv(ENDPOINT, receiver.url)
    environ = {ENDPOINT: receiver.url}
    with tracing(environ, "gateway") as first, tracing(environ, "provider") as second:
        yield [first, second]


async def traced(
    monkeypatch: pytest.MonkeyPatch, *parents: str
) -> tuple[Receiver, TraceParent, str]:
    """Return the exports of one request, the trace that the backend got, and the task's id."""
    with receiving() as receiver, exporting(receiver, monkeypatch) as tracers:
        async with line(*tracers) as (gateway, around):
            task = await ask(gateway, *parents, stream=True)
            backend = seen(around)
    return receiver, backend, task


async def test_one_request_is_one_trace_from_the_client_to_the_backend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver, backend, _ = await traced(monkeypatch, str(CLIENT))

    request, call = (
        next(span for span in receiver.spans if span.kind == kind) for kind in (SERVER, CLIENT_KIND)
    )
    wait, attempt = receiver.named("queue wait"), receiver.named("attempt")
    assert {CLIENT.trace_id} == {span.trace_id for span in receiver.spans}
    assert [CLIENT.span_id, request.span_id, request.span_id, attempt.span_id] == [
        span.parent_id for span in (request, wait, attempt, call)
    ]
    assert (CLIENT.trace_id, call.span_id) == (backend.trace_id, backend.span_id)
    assert [SERVER, INTERNAL, CONSUMER, CLIENT_KIND] == [
        span.kind for span in (request, wait, attempt, call)
    ]
    assert ["gateway", "gateway", "provider", "provider"] == [
        span.service for span in (request, wait, attempt, call)
    ]


async def test_spans_say_what_took_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, _, task = await traced(monkeypatch)

    attempt = receiver.named("attempt")
    call = next(span for span in receiver.spans if span.kind == CLIENT_KIND)
    request = next(span for span in receiver.spans if span.kind == SERVER)
    wait = receiver.named("queue wait")
    assert "" == request.parent_id
    assert f"chat {MODEL}" == request.name == call.name
    assert request.start_ms <= wait.start_ms <= wait.end_ms <= attempt.end_ms
    assert wait.end_ms == attempt.start_ms <= call.start_ms <= call.end_ms <= attempt.end_ms
    assert [task, task] == [span.attributes["inferline.task"] for span in (request, attempt)]
    assert 200 == request.attributes["http.response.status_code"]
    assert "answered" == attempt.attributes["inferline.ending"]
    assert [] == [span.name for span in receiver.spans if span.failed]


async def test_no_prompt_and_no_key_is_in_a_span(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, _, _ = await traced(monkeypatch, str(CLIENT))

    everything = b"".join(receiver.raw)
    assert receiver.spans
    assert [] == [word for word in (CANARY, KEY, "Bearer") if word.encode() in everything]


async def test_a_refused_request_is_a_span_without_the_model_it_made_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receiving() as receiver, exporting(receiver, monkeypatch) as tracers:
        async with (
            running_gateway(tracer=tracers[0]) as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
        ):
            await client.post(PATH, json={**ASKED, "model": CANARY})

    (span,) = receiver.spans
    assert ("chat", "model_not_found", False) == (
        span.name,
        span.attributes["error.type"],
        span.failed,
    )
    assert CANARY.encode() not in b"".join(receiver.raw)
