"""From request to answer, with the test as the provider."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from inferline.errors import Unavailable
from inferline.gateway.routes.inference import InferenceFirst
from inferline.tasks.task import CHUNK_BYTES_MAX, State
from tests.support.gateway import MODEL, Gateway, running_gateway

PATH = "/v1/chat/completions"
EVENTS = "text/event-stream; charset=utf-8"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "Hi 😀"}], "unknown_field": 1}


async def until(gateway: Gateway, state: State) -> None:
    """Return when the only task is in ``state``."""
    for _ in range(6000):
        if [state] == [task.state for task in gateway.store._tasks.values()]:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{gateway.store._tasks.values()} never became {state}")


@pytest.mark.parametrize("prefix", ["/v1", "", "/api", "/api/v1"])
@pytest.mark.parametrize(
    ("path", "backend_path"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/embeddings", "/v1/embeddings"),
        ("/responses", "/v1/responses"),
        ("/messages", "/v1/messages"),
        ("/rerank", "/v1/rerank"),
        ("/score", "/v1/score"),
        ("/tokenize", "/tokenize"),
    ],
)
async def test_a_request_goes_out_and_its_answer_comes_back_untouched(
    gateway: Gateway, client: httpx.AsyncClient, prefix: str, path: str, backend_path: str
) -> None:
    sent = json.dumps(ASKED, ensure_ascii=False, indent=3).encode()
    asked = asyncio.create_task(client.post(prefix + path, content=sent))
    taken = await gateway.take()
    answer = b'{ "odd" :  "bytes\\u0000 \xc3\xa9"}\n'
    await taken.finish(tail=answer, content_type="application/json; x=y")

    response = await asked

    assert (sent, backend_path) == (taken.body, taken.task.path)
    assert (200, answer) == (response.status_code, response.content)
    assert "application/json; x=y" == response.headers["content-type"]
    assert taken.task.ref.id == response.headers["x-request-id"]
    assert "p1" == response.headers["x-inferline-provider"]
    assert "1" == response.headers["x-inferline-attempt"]
    assert int(response.headers["x-inferline-queue-ms"]) >= 0


@pytest.mark.parametrize("status", [400, 404, 422, 501])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_backends_refusal_reaches_the_client_as_it_is(
    gateway: Gateway, client: httpx.AsyncClient, status: int, stream: bool
) -> None:
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": stream}))
    await (await gateway.take()).finish(status=status, tail=b'{"error":{"message":"no"}}')

    response = await asked

    assert (status, b'{"error":{"message":"no"}}') == (response.status_code, response.content)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_hears_when_and_whether_to_ask_a_busy_backend_again(
    gateway: Gateway, client: httpx.AsyncClient, stream: bool
) -> None:
    headers = {"retry-after": "3600", "x-should-retry": "false"}
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": stream}))
    await (await gateway.take()).finish(status=429, tail=b'{"error":{}}', headers=headers)

    response = await asked

    # Told of more than a minute, some SDKs give up and others ask again at once.
    assert ("60", "false") == tuple(response.headers[name] for name in headers)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_hears_that_repeating_what_failed_twice_does_not_help(
    gateway: Gateway, client: httpx.AsyncClient, stream: bool
) -> None:
    error = {"message": "broken", "type": "server_error", "param": None, "code": "x", "status": 502}
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": stream}))
    await (await gateway.take()).finish(error=error, headers={"x-should-retry": "false"})

    response = await asked

    assert (502, "false") == (response.status_code, response.headers["x-should-retry"])


async def test_a_stream_arrives_piece_by_piece_as_it_is_written(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    pieces = [b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"]
    serving: asyncio.Task[None] | None = None
    may_go_on = asyncio.Semaphore(0)

    async def serve() -> None:
        taken = await gateway.take()
        for piece in pieces:
            await taken.write(piece)
            await may_go_on.acquire()
        await taken.finish(tail=b"data: [DONE]\n\n")

    serving = asyncio.create_task(serve())
    got = []
    async with client.stream("POST", PATH, json={**ASKED, "stream": True}) as response:
        assert "text/event-stream" == response.headers["content-type"]
        async for piece in response.aiter_raw():
            got.append(piece)
            may_go_on.release()

    await serving
    assert [*pieces, b"data: [DONE]\n\n"] == got


@pytest.mark.parametrize("stream", [False, True])
async def test_a_large_answer_comes_whole(
    gateway: Gateway, client: httpx.AsyncClient, stream: bool
) -> None:
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": stream}))
    taken = await gateway.take()
    for number in range(70):
        await taken.write(bytes([65 + number % 26]) * CHUNK_BYTES_MAX)
    await taken.finish(tail=b"end", content_type="application/json")

    response = await asked

    expected = b"".join(bytes([65 + n % 26]) * CHUNK_BYTES_MAX for n in range(70)) + b"end"
    assert expected == response.content


async def test_a_large_body_waits_beside_the_queue(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    big = {**ASKED, "padding": "x" * 250_000}
    asked = asyncio.create_task(client.post(PATH, json=big))
    taken = await gateway.take()
    await taken.finish(tail=b"{}")
    await asked

    assert taken.body is None
    assert big == json.loads(await gateway.bodies.get(f"{taken.task.ref.slug}/{taken.task.ref.id}"))


@pytest.mark.parametrize("tier", ["flex", "priority", "default", "auto", None])
async def test_the_service_tier_chooses_the_queue(
    gateway: Gateway, client: httpx.AsyncClient, tier: str | None
) -> None:
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "service_tier": tier}))

    taken = await gateway.take(tier=tier if tier in ("flex", "priority") else "default")

    await taken.finish(tail=b"{}")
    assert 200 == (await asked).status_code


async def test_a_lost_provider_does_not_show_before_the_first_byte(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json=ASKED))
    first = await gateway.take()
    await first.write(b"half an ans")
    await gateway.store.hand_back(first.task, counts=True)
    await gateway.queue.change_visibility([first.delivery], 0)
    second = await gateway.take()
    await second.finish(tail=b'{"whole":1}')

    response = await asked

    assert b'{"whole":1}' == response.content
    assert "2" == response.headers["x-inferline-attempt"]


async def test_a_stream_whose_provider_is_lost_ends_with_an_error_and_never_mixes(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async def serve() -> None:
        first = await gateway.take()
        await first.write(b"data: one\n\n")
        await asyncio.sleep(0.3)
        await gateway.store.hand_back(first.task, counts=True)
        await gateway.queue.change_visibility([first.delivery], 0)
        second = await gateway.take()
        await second.write(b"data: two\n\n")

    serving = asyncio.create_task(serve())
    response = await client.post(PATH, json={**ASKED, "stream": True})
    await serving

    head, _, tail = response.text.partition("\n\n")
    assert "data: one" == head
    error = json.loads(tail.removeprefix("data: "))["error"]
    assert "provider_lost" == error["code"]
    await until(gateway, State.CANCELLED)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_task_is_its_error(
    gateway: Gateway, client: httpx.AsyncClient, stream: bool
) -> None:
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": stream}))
    error = {"message": "broken", "type": "server_error", "param": None, "code": "x", "status": 502}
    await (await gateway.take()).finish(error=error)

    response = await asked

    assert 502 == response.status_code
    assert {**error, "status": ...} == {**response.json()["error"], "status": ...}


async def test_what_came_before_a_failure_is_still_delivered(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": True}))
    taken = await gateway.take()
    await taken.write(b"data: one\n\n")
    await taken.write(b"data: two\n\n")
    error = {"message": "broken", "code": "provider_lost", "status": 502}
    await taken.finish(error=error, tail=b"data: three\n\n")

    response = await asked

    whole = "data: one\n\ndata: two\n\ndata: three\n\n"
    assert response.text.startswith(whole + 'data: {"error":')
    assert response.text.endswith("\n\n")


@pytest.mark.parametrize("last", [b"one", b"two"])
async def test_after_the_last_event_of_a_stream_no_error_is_told(
    gateway: Gateway, client: httpx.AsyncClient, last: bytes
) -> None:
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": True}))
    taken = await gateway.take()
    if last == b"two":
        await taken.write(b"data: one\n\n")
    await taken.write(b"data: " + last + b"\n\ndata: [DONE]\n\n")
    await until(gateway, State.RUNNING)
    await asyncio.sleep(0.2)
    await gateway.store.expire(taken.task.ref)

    response = await asked

    assert response.text.endswith(last.decode() + "\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_cancels_its_task(
    gateway: Gateway, client: httpx.AsyncClient, running: bool, stream: bool
) -> None:
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": stream}))
    if running:
        taken = await gateway.take()
        if stream:
            await taken.write(b"data: one\n\n")
            await asyncio.sleep(0.2)
    else:
        await until(gateway, State.QUEUED)

    asked.cancel()

    await until(gateway, State.CANCELLED)


async def test_a_request_past_its_deadline_is_a_504_that_asks_for_no_retry() -> None:
    async with running_gateway(request_seconds_max=0.2) as gateway:
        await gateway.know()
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            response = await client.post(PATH, json=ASKED)

    assert (504, "deadline_exceeded") == (response.status_code, response.json()["error"]["code"])
    assert "false" == response.headers["x-should-retry"]


async def test_a_model_without_a_provider_waits_and_then_says_so(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await gateway.registry.remove_provider("p1")
    await gateway.counted()

    response = await client.post(PATH, json=ASKED)

    assert 503 == response.status_code
    assert "no_provider_available" == response.json()["error"]["code"]
    assert 1 <= int(response.headers["retry-after"]) <= 60
    await until(gateway, State.EXPIRED)


async def test_a_provider_that_comes_while_a_request_waits_serves_it(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await gateway.registry.remove_provider("p1")
    await gateway.counted()
    asked = asyncio.create_task(client.post(PATH, json=ASKED))
    await until(gateway, State.QUEUED)
    await gateway.know()
    await (await gateway.take()).finish(tail=b"{}")

    assert 200 == (await asked).status_code


async def test_an_unknown_model_is_a_404_and_makes_no_task(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    response = await client.post(PATH, json={**ASKED, "model": "<b>nobody</b>"})

    assert (404, "model_not_found") == (response.status_code, response.json()["error"]["code"])
    assert "model" == response.json()["error"]["param"]
    assert {} == gateway.store._tasks


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async with running_gateway(queue_depth_max=2) as gateway:
        await gateway.know()
        url = (await gateway.queue.make(MODEL))["default"]
        for _ in range(2):
            gateway.queue.put(url, "a message")
        await gateway.parts.catalogue.depth_now(url)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            response = await client.post(PATH, json=ASKED)

    assert (429, "queue_full") == (response.status_code, response.json()["error"]["code"])
    assert 1 <= int(response.headers["retry-after"]) <= 60


async def test_a_queue_that_is_too_slow_for_the_deadline_refuses_too() -> None:
    async with running_gateway(request_seconds_max=5) as gateway:
        await gateway.know(slots=2, service_seconds=4.0)
        url = (await gateway.queue.make(MODEL))["default"]
        for _ in range(3):
            gateway.queue.put(url, "a message")
        await gateway.parts.catalogue.depth_now(url)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            response = await client.post(PATH, json=ASKED)

    assert 429 == response.status_code


async def test_a_silent_stream_is_opened_and_kept_open_by_comments() -> None:
    async with running_gateway(first_byte_wait_seconds=0.1, ping_seconds=0.1) as gateway:
        await gateway.know()
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": True}))
            taken = await gateway.take()
            await asyncio.sleep(0.8)
            await taken.write(b"data: 1\n\n")
            await taken.finish(tail=b"data: [DONE]\n\n")
            response = await asked

    assert (200, EVENTS) == (response.status_code, response.headers["content-type"])
    assert response.text.startswith(": ping\n\n")
    assert response.text.endswith("data: 1\n\ndata: [DONE]\n\n")


async def test_a_refusal_after_the_status_line_went_out_is_an_event_of_the_stream() -> None:
    async with (
        running_gateway(first_byte_wait_seconds=0.1) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        await gateway.know()
        asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": True}))
        taken = await gateway.take()
        await asyncio.sleep(0.5)
        await taken.finish(status=400, tail=b'{"error":\n {"message": "too long"}}\n')

        response = await asked

    event = response.text.replace(": ping\n\n", "")
    assert (200, EVENTS) == (response.status_code, response.headers["content-type"])
    assert {"error": {"message": "too long"}} == json.loads(event.removeprefix("data: "))
    assert event.endswith("\n\n")
    assert 1 == event.count("data:")


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [("/v1/responses", "", "error"), ("/v1/messages", "event: error\n", "error")],
)
@pytest.mark.parametrize("begun", [False, True])
async def test_a_broken_stream_ends_with_an_event_that_its_clients_read(
    path: str, name: str, kind: str, begun: bool
) -> None:
    async with (
        running_gateway(first_byte_wait_seconds=0.1) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        await gateway.know()
        asked = asyncio.create_task(client.post(path, json={**ASKED, "stream": True}))
        taken = await gateway.take()
        if begun:
            await taken.write(b'data: {"type":"x"}\n\n')
            await taken.finish(error={"message": "broken", "code": "provider_lost", "status": 502})
        else:
            await asyncio.sleep(0.5)
            await taken.finish(status=502, tail=b'{"error":{"message":"broken"}}')

        event = (await asked).text.replace(": ping\n\n", "").replace('data: {"type":"x"}\n\n', "")

    assert event.startswith(name + "data: ")
    last = json.loads(event.removeprefix(name + "data: "))
    assert (kind, "broken") == (last["type"], last["error"]["message"])
    assert last["error"]["type"] in ("server_error", "api_error")


async def test_a_store_that_stops_answering_ends_the_request_and_its_task(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async def refuse(wanted: object) -> list[object]:
        raise Unavailable

    gateway.store.read = refuse  # type: ignore[method-assign, assignment]

    response = await client.post(PATH, json=ASKED)

    assert (503, "service_unavailable") == (response.status_code, response.json()["error"]["code"])
    await until(gateway, State.CANCELLED)


async def test_many_waiting_requests_share_their_reads(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    sizes = []
    read = gateway.store.read

    async def counted(wanted: list) -> list:  # type: ignore[type-arg]
        sizes.append(len(wanted))
        return await read(wanted)

    gateway.store.read = counted  # type: ignore[method-assign, assignment]
    asked = [asyncio.create_task(client.post(PATH, json=ASKED)) for _ in range(40)]
    for _ in range(40):
        await (await gateway.take()).finish(tail=b"{}")
    assert {200} == {one.status_code for one in await asyncio.gather(*asked)}

    assert max(sizes) > 5


async def test_an_answer_that_takes_long_is_kept_open_with_blanks_before_it() -> None:
    async with running_gateway(keepalive_after_seconds=0.1) as gateway:
        await gateway.know()
        async with (
            httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
            client.stream("POST", PATH, json=ASKED) as response,
        ):
            pieces = response.aiter_raw()
            first = await anext(pieces)
            taken = await gateway.take()
            await taken.finish(tail=b'{"late": true}')
            rest = b"".join([piece async for piece in pieces])

    assert (200, b" ") == (response.status_code, first[:1])
    assert "content-length" not in response.headers
    assert {"late": True} == json.loads(first + rest)


@pytest.mark.parametrize("outcome", [{"status": 400}, {"error": {"message": "no", "status": 502}}])
async def test_an_answer_kept_open_that_fails_is_broken_off(outcome: dict[str, object]) -> None:
    async with running_gateway(keepalive_after_seconds=0.05) as gateway:
        await gateway.know()
        async with (
            httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
            client.stream("POST", PATH, json=ASKED) as response,
        ):
            taken = await gateway.take()
            pieces = response.aiter_raw()
            await anext(pieces)
            await taken.finish(tail=b'{"error": {}}', **outcome)
            with pytest.raises(httpx.RemoteProtocolError):
                [piece async for piece in pieces]

        (entry,) = gateway.entries
        assert entry.code


@pytest.mark.parametrize(
    ("root", "path"),
    [("", PATH), ("/prod", f"/prod{PATH}")],
)
async def test_an_inference_route_is_looked_up_by_its_address_below_the_root(
    root: str, path: str
) -> None:
    reached: list[str] = []

    class Noted:
        def __init__(self, name: str) -> None:
            self.name = name

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            reached.append(self.name)

    route = Route(PATH, Noted("endpoint"), methods=["POST"])
    app = InferenceFirst(Noted("framework"), [route])
    scope = {"type": "http", "method": "POST", "path": path, "root_path": root}

    await app(scope, None, None)  # type: ignore[arg-type]

    assert ["endpoint"] == reached
