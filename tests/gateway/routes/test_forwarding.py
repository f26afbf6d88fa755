"""What is passed on besides chats: forms, texts, sounds, queries, headers, and what has no body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from inferline.accounts.keys import new_key
from inferline.gateway.routes.endpoints import ENDPOINTS
from inferline.tasks.queue import Message
from inferline.tasks.task import State
from tests.gateway.routes.test_inference import until
from tests.gateway.submit.test_repeat import KEYED, orphaned, rows
from tests.support.forms import BOUNDARY, FORM, SOUND, field, file, form
from tests.support.gateway import MODEL, Gateway, Taken, running_gateway

TRANSCRIPTIONS = "/v1/audio/transcriptions"
SPEECH = "/v1/audio/speech"
SENT = form(file(), field("model", MODEL))
TYPED = {"content-type": FORM}
ASKED = {"model": MODEL, "input": "Hi", "voice": "alloy"}
#: The same form as its client sends it again.
AGAIN = SENT.replace(f"--{BOUNDARY}".encode(), b"--another")
TYPED_AGAIN = {"content-type": FORM.replace(BOUNDARY, "another")}


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running_gateway(reader_seconds=0.6) as running:
        await running.know()
        yield running


async def answered(asking: Any, gateway: Gateway, **outcome: Any) -> tuple[httpx.Response, Taken]:
    asked = asyncio.create_task(asking)
    taken = await gateway.take()
    await taken.finish(**{"tail": b"{}", **outcome})
    return await asked, taken


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.path)
async def test_each_endpoint_goes_to_where_real_servers_have_it(
    gateway: Gateway, client: httpx.AsyncClient, endpoint: Any
) -> None:
    asking = client.request(endpoint.method, f"/v1{endpoint.path}", json=ASKED)

    response, taken = await answered(asking, gateway)

    assert (200, b"{}") == (response.status_code, response.content)
    assert endpoint.backend_path == taken.task.path


@pytest.mark.parametrize("path", [e.path for e in ENDPOINTS if e.file])
async def test_a_form_goes_out_as_it_came(
    gateway: Gateway, client: httpx.AsyncClient, path: str
) -> None:
    response, taken = await answered(
        client.post(f"/v1{path}", content=SENT, headers=TYPED), gateway
    )

    assert 200 == response.status_code
    assert (SENT, {"content-type": FORM}) == (taken.body, taken.task.request_headers)


async def test_a_large_form_waits_beside_the_queue(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    large = form(file(value=SOUND * 10_000), field("model", MODEL))

    _, taken = await answered(client.post(TRANSCRIPTIONS, content=large, headers=TYPED), gateway)

    message = Message.loads(taken.delivery.text)
    assert message.body is None
    assert not message.is_json
    assert large == await gateway.bodies.get(message.body_key or "")


@pytest.mark.parametrize("content_type", ["text/plain; charset=utf-8", "text/vtt", "audio/mpeg"])
async def test_a_text_and_a_sound_come_back_as_they_are_and_never_as_a_page(
    gateway: Gateway, client: httpx.AsyncClient, content_type: str
) -> None:
    response, _ = await answered(
        client.post(SPEECH, json=ASKED), gateway, tail=SOUND, content_type=content_type
    )

    assert SOUND == response.content
    assert content_type == response.headers["content-type"]
    assert "nosniff" == response.headers["x-content-type-options"]


@pytest.mark.parametrize("content_type", ["text/html", "image/svg+xml", "audio/x-mpegurl", "a/b"])
async def test_what_a_browser_could_show_as_a_page_is_no_answer(
    gateway: Gateway, client: httpx.AsyncClient, content_type: str
) -> None:
    response, _ = await answered(
        client.post(SPEECH, json=ASKED), gateway, tail=b"<p>", content_type=content_type
    )

    assert (502, "provider_fault") == (response.status_code, response.json()["error"]["code"])


async def test_speech_as_events_is_a_stream(gateway: Gateway, client: httpx.AsyncClient) -> None:
    asked = asyncio.create_task(client.post(SPEECH, json={**ASKED, "stream_format": "sse"}))
    taken = await gateway.take()
    await taken.write(b'data: {"type": "speech.audio.delta"}\n\n')
    await taken.finish(tail=b'data: {"type": "speech.audio.done"}\n\n')

    response = await asked

    assert "text/event-stream" == response.headers["content-type"]
    assert 2 == response.text.count("data: ")


async def test_a_stream_that_becomes_a_sound_too_late_ends_with_an_error() -> None:
    async with running_gateway(first_byte_wait_seconds=0.1) as gateway:
        await gateway.know()
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            asked = {**ASKED, "stream_format": "sse"}
            asking = asyncio.create_task(client.post(SPEECH, json=asked))
            taken = await gateway.take()
            await asyncio.sleep(0.4)
            await taken.finish(tail=SOUND, content_type="audio/wav")

            response = await asking

    assert b"backend_failed" in response.content
    assert SOUND not in response.content


async def test_no_blanks_come_before_a_sound() -> None:
    async with running_gateway(keepalive_after_seconds=0.1) as gateway:
        await gateway.know()
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            asking = asyncio.create_task(client.post(SPEECH, json=ASKED))
            taken = await gateway.take()
            await asyncio.sleep(0.4)
            await taken.finish(tail=SOUND, content_type="audio/wav")

            response = await asking

    assert SOUND == response.content


async def test_a_sound_is_not_packed_a_second_time() -> None:
    async with running_gateway(compression="gzip") as gateway:
        await gateway.know()
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            asking = client.post(SPEECH, json=ASKED)
            outcome = {"tail": SOUND * 100, "content_type": "audio/wav"}
            response, _ = await answered(asking, gateway, **outcome)

    assert "content-encoding" not in response.headers
    assert SOUND * 100 == response.content


async def test_a_sound_of_a_task_is_had_by_its_stream_alone(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asking = client.post(SPEECH, json=ASKED)
    response, _ = await answered(asking, gateway, tail=SOUND, content_type="audio/wav")
    address = f"/v1/tasks/{response.headers['x-request-id']}"

    object_of_task, again = await client.get(address), await client.get(f"{address}/stream")

    assert ("DONE", None) == (object_of_task.json()["state"], object_of_task.json()["result"])
    assert (SOUND, "audio/wav") == (again.content, again.headers["content-type"])


async def test_the_query_and_two_headers_reach_the_backend_and_no_key_does(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "a,b", "x-other": "c"}
    asking = client.post("/v1/messages?beta=true&key=il_x", json=ASKED, headers=headers)

    _, taken = await answered(asking, gateway)

    assert "beta=true" == taken.task.query
    assert {"anthropic-version", "anthropic-beta"} == set(taken.task.request_headers)
    assert 1 == Message.loads(taken.delivery.text).dumps().count('"v": 1')


@pytest.mark.parametrize(
    ("query", "param"), [("url=http://192.0.2.1", "url"), ("chat_template=x", "chat_template")]
)
async def test_a_query_is_refused_as_json_is(
    client: httpx.AsyncClient, query: str, param: str
) -> None:
    response = await client.post(f"/v1/embeddings?{query}", json=ASKED)

    assert (400, param) == (response.status_code, response.json()["error"]["param"])


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/tokenizer_info"), ("POST", "/tokenize"), ("POST", "/detokenize")]
)
async def test_the_only_model_need_not_be_named(
    gateway: Gateway, client: httpx.AsyncClient, method: str, path: str
) -> None:
    body = {} if method == "GET" else {"json": {"prompt": "Hi"}}

    response, taken = await answered(client.request(method, path, **body), gateway)

    assert (200, MODEL) == (response.status_code, taken.task.model)


async def test_of_several_models_the_query_names_one(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await gateway.know("org/other")

    unnamed = await client.get("/tokenizer_info")
    asked = asyncio.create_task(client.get("/tokenizer_info?model=org%2Fother"))
    taken = await gateway.take(model="org/other")
    await taken.finish(tail=b"{}")

    assert (400, "model") == (unnamed.status_code, unnamed.json()["error"]["param"])
    assert (200, b"") == ((await asked).status_code, taken.body)


async def test_a_query_that_names_no_model_is_refused_though_the_body_names_one(
    client: httpx.AsyncClient,
) -> None:
    refused = await client.post(f"/tokenize?model={'m' * 257}", json={"model": MODEL})

    assert (400, "model") == (refused.status_code, refused.json()["error"]["param"])


async def test_the_only_model_is_the_only_one_that_the_key_is_for() -> None:
    async with running_gateway(access="keys") as gateway:
        await gateway.know()
        await gateway.know("other")
        key, shown = new_key("client", "a", tenant="t", now_ms=0, models=("other",))
        await gateway.keys.put_key(key)
        bearer = {"authorization": f"Bearer {shown}"}
        async with httpx.AsyncClient(base_url=gateway.url, headers=bearer, timeout=60) as client:
            asked = asyncio.create_task(client.get("/tokenizer_info"))
            await (await gateway.take(model="other")).finish(tail=b"{}")

            assert 200 == (await asked).status_code


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/audio", "/v1/audio/voices", "/slots"])
async def test_what_is_not_passed_on_is_a_404_that_says_so(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.post(path, json=ASKED)

    assert 404 == response.status_code
    assert "not passed on" in response.json()["error"]["message"]


async def test_a_key_stands_for_a_form_whatever_its_boundary(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asking = client.post(TRANSCRIPTIONS, content=SENT, headers=TYPED | KEYED)
    first, _ = await answered(asking, gateway, tail=b'{"text":"a"}')

    again = await client.post(TRANSCRIPTIONS, content=AGAIN, headers=TYPED_AGAIN | KEYED)
    other = await client.post(f"{TRANSCRIPTIONS}?a=1", content=AGAIN, headers=TYPED_AGAIN | KEYED)

    assert first.headers["x-request-id"] == again.headers["x-request-id"]
    assert (again.content, 1) == (b'{"text":"a"}', len(rows(gateway)))
    assert "idempotency_key_reused" == other.json()["error"]["code"]


async def test_a_retry_of_a_form_adopts_its_task_with_the_body_that_it_had(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(TRANSCRIPTIONS, content=SENT, headers=TYPED))
    await until(gateway, State.QUEUED)
    [task] = rows(gateway)
    orphaned(gateway, task, 60)
    asked.cancel()
    await asyncio.sleep(0.1)
    orphaned(gateway, task)
    retry = TYPED_AGAIN | {"x-stainless-retry-count": "1"}

    asking = asyncio.create_task(client.post(TRANSCRIPTIONS, content=AGAIN, headers=retry))
    url = (await gateway.queue.make(MODEL))["default"]
    async with asyncio.timeout(60):
        while len(gateway.queue.messages(url)) < 2:  # noqa: ASYNC110 - a message sent has no event
            await asyncio.sleep(0.005)
    bodies = [Message.loads(text).body for text in gateway.queue.messages(url)]
    await (await gateway.take()).finish(tail=b"{}")

    assert [SENT, SENT] == bodies
    assert task.ref.id == (await asking).headers["x-request-id"]
