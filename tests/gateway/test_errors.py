"""Whatever is sent, the answer is an error in OpenAI's shape, and never a 500."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from inferline.gateway.app import create_app
from tests.support.gateway import MODEL, Gateway, running_gateway

PATH = "/v1/chat/completions"
HOSTILE = {
    "empty": b"",
    "not json": b"hello",
    "an array": b"[]",
    "null": b"null",
    "no model": b"{}",
    "a number for a model": b'{"model": 3}',
    "an empty model": b'{"model": ""}',
    "a long model": b'{"model": "' + b"m" * 300 + b'"}',
    "stream as text": b'{"model": "test-model", "stream": "yes"}',
    "an unknown tier": b'{"model": "test-model", "service_tier": "gold"}',
    "deep arrays": b'{"model":"test-model","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"model":"test-model","x":' + b'{"a":' * 500 + b"1" + b"}" * 501,
    "not a number": b'{"model":"test-model","x":NaN}',
    "infinity": b'{"model":"test-model","x":1e999}',
    "a huge integer": b'{"model":"test-model","x":' + b"9" * 5000 + b"}",
    "a lone surrogate": b'{"model":"test-model","x":"\\ud800"}',
    "not utf-8": b'{"model":"test-model","x":"\xff\xfe"}',
    "utf-16": '{"model":"test-model"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"model":"test-model"}',
    "nul bytes": b"\x00" * 100,
    "trailing text": b'{"model":"test-model"} x',
    "two models": b'{"model":"test-model","model":"other"}',
}


def check_shape(response: httpx.Response) -> None:
    error = response.json()["error"]
    assert {"message", "type", "param", "code"} == set(error)
    assert error["message"]
    assert error["code"]
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_json_is_a_400(client: httpx.AsyncClient, name: str) -> None:
    response = await client.post(PATH, content=HOSTILE[name])

    assert 400 == response.status_code
    check_shape(response)
    assert "invalid_request_error" == response.json()["error"]["type"]


@pytest.mark.parametrize("text", ["\\ud83d", "\\udc00 x", "\\ud83d\\u0041", "\\ud83d\\ud83d"])
async def test_half_of_a_character_is_refused_in_plain_words(
    client: httpx.AsyncClient, text: str
) -> None:
    body = '{"model":"test-model","x":"' + text + '"}'
    response = await client.post(PATH, content=body.encode())

    assert 400 == response.status_code
    check_shape(response)
    message = response.json()["error"]["message"]
    assert "half of a character" in message
    assert "hex" not in message


async def test_a_large_body_is_a_413_told_by_its_length_or_by_its_bytes() -> None:
    async def pieces():  # type: ignore[no-untyped-def]
        for _ in range(20):
            yield b"x" * 100

    async with (
        running_gateway(body_bytes_max=1000) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        by_length = await client.post(PATH, content=b"x" * 1001)
        untold = await client.post(PATH, content=pieces())

    for response in (by_length, untold):
        assert 413 == response.status_code
        check_shape(response)
        assert "1000" in response.json()["error"]["message"]


async def test_a_control_route_reads_no_large_body_before_it_asks_for_a_key() -> None:
    async def pieces():  # type: ignore[no-untyped-def]
        for _ in range(20):
            yield b"x" * 100_000

    json = {"content-type": "application/json"}
    async with (
        running_gateway(access="keys", body_bytes_max=100_000) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60, headers=json) as client,
    ):
        by_length = await client.post("/v1/providers", content=b"x" * 100_001)
        untold = await client.post("/v1/keys", content=pieces())

    for response in (by_length, untold):
        assert 413 == response.status_code
        check_shape(response)
        assert "request_too_large" == response.json()["error"]["code"]


async def test_a_length_of_thousands_of_digits_is_a_413(gateway: Gateway) -> None:
    transport = httpx.ASGITransport(create_app(gateway.parts))
    async with httpx.AsyncClient(base_url="http://x", transport=transport, timeout=60) as client:
        length = {"content-length": "9" * 5000}
        response = await client.post(PATH, content=b"{}", headers=length)

    assert 413 == response.status_code


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", PATH, 405),
        ("PATCH", "/v1/models", 405),
        ("POST", "/v1/providers", 400),
        ("GET", "/v1/models/none/such", 404),
        ("DELETE", "/v1/providers/%00", 400),
    ],
)
async def test_what_is_not_there_is_told_in_the_same_shape(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await client.request(method, path)

    assert status == response.status_code
    check_shape(response)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", PATH, "POST"),
        ("PUT", "/v1/providers", "GET, HEAD, POST"),
        ("DELETE", "/api/keys", "GET, HEAD, POST"),
        ("GET", "/v1/keys/x", "DELETE"),
        ("POST", "/v1/models/a/b", "GET, HEAD"),
        ("POST", "/dashboard", "GET, HEAD"),
    ],
)
async def test_a_405_says_all_that_is_allowed(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await client.request(method, path)

    assert (405, allowed) == (response.status_code, response.headers["allow"])


async def test_of_what_a_client_calls_a_field_only_so_much_is_repeated(
    client: httpx.AsyncClient,
) -> None:
    enrolment = {"id": "p", "version": "1", "slots": 1, "models": [], "speeds": {"x" * 5000: {}}}

    response = await client.post("/v1/providers", json=enrolment)

    assert 400 == response.status_code
    assert 200 == len(response.json()["error"]["param"])


async def test_an_enrolment_that_is_wrong_is_told_without_repeating_it(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post("/v1/providers", json={"id": "<script>secret</script>"})

    assert 400 == response.status_code
    check_shape(response)
    assert "secret" not in response.text


async def test_a_storage_that_does_not_answer_is_a_503(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    from inferline.errors import Unavailable

    async def refuse(*_: object, **__: object) -> None:
        raise Unavailable

    gateway.queue.send = refuse  # type: ignore[method-assign]
    response = await client.post(PATH, json={"model": MODEL})

    assert (503, "service_unavailable") == (
        response.status_code,
        response.json()["error"]["code"],
    )
    check_shape(response)
    assert ["EXPIRED"] == [task.state for task in gateway.store._tasks.values()]


async def test_an_error_that_nobody_foresaw_is_a_500_without_its_text(
    gateway: Gateway, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = "kanari-of-a-prompt"  # A traceback quotes the source, but not this line of it.

    async def fall_over(*_: object, **__: object) -> None:
        raise RuntimeError(prompt)

    gateway.store.submit = fall_over  # type: ignore[method-assign]
    response = await client.post(PATH, json={"model": MODEL})

    assert 500 == response.status_code
    check_shape(response)
    assert "kanari" not in response.text
    assert "RuntimeError" in caplog.text
    assert "kanari" not in caplog.text


async def test_every_request_has_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(*(client.get("/v1/nothing") for _ in range(20)))

    assert 20 == len({response.headers["x-request-id"] for response in responses})


async def test_a_slow_body_that_stops_is_no_error_in_the_log(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{{".encode())
    await writer.drain()
    writer.close()
    async with asyncio.timeout(60):
        while not gateway.entries:  # noqa: ASYNC110  # a list tells nobody of what it gets
            await asyncio.sleep(0.01)

    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        assert 200 == (await client.get("/health")).status_code
    assert [(499, "cancelled")] == [(entry.status, entry.code) for entry in gateway.entries]
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]


def test_the_hostile_table_is_hostile() -> None:
    for name, body in HOSTILE.items():
        try:
            document = json.loads(body.decode())
        except (ValueError, RecursionError):
            continue
        assert not (isinstance(document, dict) and document == {"model": MODEL}), name
