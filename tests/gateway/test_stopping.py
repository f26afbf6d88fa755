"""A gateway that stops hands on unfinished tasks: they go on, and clients find them again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from starlette.types import Message

from inferline.gateway.app import create_app
from inferline.tasks.task import State
from tests.support.gateway import MODEL, Gateway, Taken, running_gateway

PATH = "/v1/chat/completions"
ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
RETRY = {"x-stainless-retry-count": "1"}
FIRST = b"data: 1\n\n"
DONE = b"data: [DONE]\n\n"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """Yield a gateway whose leases end long after everything here."""
    async with running_gateway(reader_seconds=120) as running:
        await running.know()
        yield running


def stop(gateway: Gateway) -> None:
    """Stop the gateway: the time for requests under way is over."""
    gateway.parts.closing.set()


def start(gateway: Gateway) -> None:
    """Go on as another gateway on the same store would, as all state is in the store."""
    gateway.parts.closing.clear()


def is_read(gateway: Gateway, taken: Taken) -> bool:
    row = gateway.store.task(taken.task.ref)
    assert row is not None
    return row.reader_ms > gateway.store.now_ms()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # nothing signals it
        await asyncio.sleep(0.01)


def live(gateway: Gateway, taken: Taken) -> bool:
    row = gateway.store.task(taken.task.ref)
    assert row is not None
    return not row.state.terminal


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_has_not_begun_is_a_503_whose_retry_gets_it(
    gateway: Gateway, client: httpx.AsyncClient, stream: bool
) -> None:
    body = {**ASKED, "stream": stream}
    asked = asyncio.create_task(client.post(PATH, json=body))
    taken = await gateway.take()
    stop(gateway)
    response = await asked

    error = response.json()["error"]
    assert (503, "1", "gateway_stopping") == (
        response.status_code,
        response.headers["retry-after"],
        error["code"],
    )
    assert live(gateway, taken)
    start(gateway)
    # The first reader releases its lease, so the retry need not wait until it lapses.
    again = asyncio.create_task(client.post(PATH, json=body, headers=RETRY))
    limit = gateway.parts.settings.reader_seconds / 2
    await asyncio.wait_for(until(lambda: is_read(gateway, taken)), limit)
    await taken.finish(tail=FIRST + DONE if stream else b"{}")
    retried = await again
    assert response.headers["x-request-id"] == retried.headers["x-request-id"]


async def test_a_stream_that_has_begun_ends_with_an_event_and_can_be_gone_on_with(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    got = b""

    async def read() -> None:
        nonlocal got
        async with client.stream("POST", PATH, json={**ASKED, "stream": True}) as response:
            async for piece in response.aiter_raw():
                got += piece
                stop(gateway)

    reading = asyncio.create_task(read())
    taken = await gateway.take()
    await taken.write(FIRST)
    await reading

    assert got.startswith(FIRST)
    assert "gateway_stopping" == json.loads(got[len(FIRST) + len("data: ") :])["error"]["code"]
    assert live(gateway, taken)
    start(gateway)
    await taken.finish(tail=DONE)
    rest = await client.get(f"/v1/tasks/{taken.task.ref.id}/stream?after=1")
    assert DONE == rest.content


async def test_a_retry_that_waits_for_a_reader_to_be_gone_is_told_to_come_again(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    first = asyncio.create_task(client.post(PATH, json=ASKED))
    taken = await gateway.take()
    row = gateway.store.task(taken.task.ref)
    assert row is not None
    gateway.store._put(row, reader="another-1")
    again = asyncio.create_task(client.post(PATH, json=ASKED, headers=RETRY))
    await asyncio.sleep(0.1)
    stop(gateway)

    assert "gateway_stopping" == (await again).json()["error"]["code"]
    assert 503 == (await first).status_code
    assert live(gateway, taken)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_the_server_cuts_off_is_no_client_that_left(
    gateway: Gateway, stream: bool
) -> None:
    app = create_app(gateway.parts)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://gateway",
        timeout=60,
    ) as client:
        asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": stream}))
        taken = await gateway.take()
        asked.cancel()
        await asyncio.wait({asked})

    assert live(gateway, taken)
    assert not is_read(gateway, taken)


async def test_a_client_that_reads_too_slowly_to_be_told_is_cut_off_and_its_task_goes_on(
    gateway: Gateway,
) -> None:
    body = json.dumps({**ASKED, "stream": True}).encode()
    received, blocked = asyncio.Queue[Message](), asyncio.Event()
    received.put_nowait({"type": "http.request", "body": body, "more_body": False})

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            blocked.set()
            await asyncio.Event().wait()

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": PATH, "raw_path": PATH.encode(), "query_string": b"", "headers": []}
    call = asyncio.create_task(create_app(gateway.parts)(scope, received.get, send))
    taken = await gateway.take()
    await taken.write(FIRST)
    await blocked.wait()
    stop(gateway)
    call.cancel()
    await call

    assert live(gateway, taken)
    assert not is_read(gateway, taken)
    assert (200, "gateway_stopping") == (gateway.entries[-1].status, gateway.entries[-1].code)


async def test_what_is_cut_off_while_it_is_still_read_is_told_so(gateway: Gateway) -> None:
    app = create_app(gateway.parts)
    reading = asyncio.Event()

    async def body() -> Any:
        yield b"{"
        reading.set()
        await asyncio.Event().wait()

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://gateway",
        timeout=60,
    ) as client:
        asked = asyncio.create_task(client.post(PATH, content=body()))
        await reading.wait()
        stop(gateway)
        asked.cancel()
        response = await asked

    assert (503, "gateway_stopping") == (
        response.status_code,
        response.json()["error"]["code"],
    )


async def test_a_client_that_leaves_a_gateway_that_stops_still_ends_its_task(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json=ASKED))
    taken = await gateway.take()
    asked.cancel()
    await asyncio.wait_for(until(lambda: not live(gateway, taken)), 60)

    row = gateway.store.task(taken.task.ref)
    assert row is not None
    assert State.CANCELLED is row.state
