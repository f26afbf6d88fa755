"""The scripted LLM server does as scripted: other tests and the benches rely on it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from inferline.streams.endings import Ending
from inferline.streams.sse import EventParser, is_done
from tests.support.backend import ROUTES, Backend, serving
from tests.support.script import Script

STREAMED = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]


class Client:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def post(self, path: str, script: dict[str, Any] | None = None, **fields: Any) -> Any:
        body = {"model": "test-model", "prompt": "x", "x_script": script or {}, **fields}
        return self._session.post(path, json=body)

    async def read(self, path: str, script: dict[str, Any] | None = None, **fields: Any) -> bytes:
        async with self.post(path, script, **fields) as answer:
            return bytes(await answer.read())


@pytest.fixture
def backend() -> Backend:
    return Backend(script=Script(first=0, interval=0, tokens=4))


@pytest.fixture
async def client(backend: Backend) -> AsyncIterator[Client]:
    async with (
        serving(backend) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        yield Client(session)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - the backend says nothing of itself
            await asyncio.sleep(0.005)


def ended(path: str, stream: bytes) -> Ending:
    parser, ending = EventParser(), Ending(path)
    for event in parser.feed(stream) + parser.close():
        ending.see(event)
    return ending


@pytest.mark.parametrize("path", ROUTES)
async def test_the_same_request_has_the_same_answer(client: Client, path: str) -> None:
    first, second = await client.read(path), await client.read(path)

    assert first == second
    assert json.loads(first)


@pytest.mark.parametrize("path", STREAMED)
async def test_a_stream_ends_as_its_kind_does(client: Client, path: str) -> None:
    assert ended(path, await client.read(path, stream=True)).complete


@pytest.mark.parametrize("path", STREAMED)
@pytest.mark.parametrize("script", [{"eof_after_tokens": 2}, {"error_event_after": 2}])
async def test_a_stream_that_fails_does_not(client: Client, path: str, script: Any) -> None:
    assert not ended(path, await client.read(path, script, stream=True)).complete


@pytest.mark.parametrize("script", [{"crlf": True}, {"comments": True}, {"crlf": True, "emoji": 1}])
async def test_odd_forms_of_a_stream_hold_the_same_events(client: Client, script: Any) -> None:
    text = {"emoji": script.get("emoji", False)}
    plain = await client.read(STREAMED[0], text, stream=True)
    odd = await client.read(STREAMED[0], script, stream=True)

    assert odd != plain or not set(script) - {"emoji"}
    parser = EventParser()
    assert b"".join(event.raw for event in parser.feed(odd)) == plain


async def test_a_reset_is_an_error_and_no_disconnect(backend: Backend, client: Client) -> None:
    with pytest.raises(aiohttp.ClientError):
        await client.read(STREAMED[0], {"abort_after_tokens": 2, "interval": 0.01}, stream=True)

    await until(lambda: backend.running == 0)
    assert backend.disconnects == 0


async def test_a_client_that_leaves_is_seen_at_once(backend: Backend, client: Client) -> None:
    async with client.post(STREAMED[0], {"stall_after_tokens": 1}, stream=True) as answer:
        await answer.content.readline()
        assert backend.running == 1
        answer.close()

    await until(lambda: backend.running == 0)
    assert backend.disconnected.is_set()
    assert backend.disconnects == 1


async def test_a_status_lasts_as_long_as_it_should(client: Client) -> None:
    script = {"status": 503, "retry_after": 1, "times": 2}
    seen = []
    for _ in range(3):
        async with client.post(STREAMED[0], script) as answer:
            seen.append((answer.status, answer.headers.get("retry-after")))

    assert seen == [(503, "1"), (503, "1"), (200, None)]


async def test_tokens_keep_their_times_however_late_one_is(client: Client) -> None:
    start = time.monotonic()
    times = []
    script = {"first": 0.1, "interval": 0.05, "tokens": 5}
    async with client.post("/v1/completions", script, stream=True) as answer:
        parser = EventParser()
        async for data in answer.content.iter_any():
            at = time.monotonic() - start
            times += [at for event in parser.feed(data) if not is_done(event)]

    assert len(times) == 5
    assert all(at >= 0.1 + 0.05 * index - 0.002 for index, at in enumerate(times))


async def test_a_wrong_script_is_refused(client: Client) -> None:
    async with client.post(STREAMED[0], {"toekns": 4}) as answer:
        assert answer.status == 400
