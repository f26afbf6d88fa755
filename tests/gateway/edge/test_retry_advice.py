"""What SDKs are told of trying again, which they all read a little differently."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import httpx
import openai
import pytest

from inferline import errors
from inferline.gateway.edge.retry_advice import advised
from tests.support.gateway import MODEL, Gateway, running_gateway

PATH = "/v1/chat/completions"
ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.InferLineError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_error_asks_for_more_than_a_minutes_patience(kind: type[errors.InferLineError]) -> None:
    error = kind()
    error.retry_after_seconds = 86_400

    assert str(errors.RETRY_AFTER_SECONDS_MAX) == error.headers()["retry-after"]


@pytest.mark.parametrize(
    ("name", "told", "passed"),
    [
        (b"retry-after", b"60", b"60"),
        (b"Retry-After", b"61", b"60"),
        (b"retry-after", b"9" * 5000, b"60"),
        (b"retry-after", b"Tue, 01 Dec 2026 03:00:00 GMT", b"60"),
        (b"retry-after", b"-1", b"60"),
        (b"retry-after", b"0", b"0"),
        (b"retry-after-ms", b"1500", b"1500"),
        (b"retry-after-ms", b"3600000", b"60000"),
        (b"x-other", b"3600", b"3600"),
    ],
)
def test_whoever_wrote_it_no_wait_is_longer(name: bytes, told: bytes, passed: bytes) -> None:
    assert [(name, passed)] == advised(503, [(name, told)])


@pytest.mark.parametrize("status", [401, 403, 409, 501])
def test_what_is_final_is_not_to_be_repeated_unless_the_backend_says_so(status: int) -> None:
    assert [(b"x-should-retry", b"false")] == advised(status, [])
    assert [(b"X-Should-Retry", b"true")] == advised(status, [(b"X-Should-Retry", b"true")])
    assert [] == advised(500, [])


@pytest.mark.parametrize("status", [409, 501])
async def test_a_backends_final_no_is_asked_for_once(gateway: Gateway, status: int) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none") as client:
        asked = asyncio.create_task(client.chat.completions.create(**ASKED))
        await (await gateway.take()).finish(status=status, tail=b'{"error": {"message": "No."}}')

        with pytest.raises(openai.APIStatusError) as caught:
            await asyncio.wait_for(asked, 60)

    assert status == caught.value.status_code
    assert "false" == caught.value.response.headers["x-should-retry"]
    assert 1 == len(gateway.entries)


async def test_a_key_that_is_refused_is_shown_once() -> None:
    async with (
        running_gateway(access="keys") as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        responses = [
            await client.post(PATH, json=ASKED),
            await client.get("/v1/models"),
            await client.post("/v1/keys", headers={"x-api-key": "none"}, json={}),
        ]

    assert ["false"] * 3 == [response.headers["x-should-retry"] for response in responses]
