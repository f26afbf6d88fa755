"""The ledger's entry for each request."""

from __future__ import annotations

import asyncio

import httpx

from inferline.errors import Unavailable
from inferline.telemetry import genai
from tests.support.gateway import MODEL, Gateway, running_gateway

PATH = "/v1/chat/completions"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "never on record"}]}


async def test_an_answer_is_one_entry_with_who_gave_it_and_how_long_it_took(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "service_tier": "flex"}))
    taken = await gateway.take(tier="flex")
    await taken.finish(tail=b'{"whole": true}')

    await asked

    (entry,) = gateway.entries
    assert (MODEL, "flex", PATH, False) == (entry.model, entry.tier, entry.path, entry.streamed)
    assert (200, "", "p1", 1) == (entry.status, entry.code, entry.provider, entry.attempt)
    assert ("local", 15) == (entry.tenant, entry.answer_bytes)
    assert taken.task.queue_ms == entry.queue_ms
    assert entry.first_ms is not None
    assert 0 <= entry.queue_ms <= entry.first_ms <= entry.total_ms
    assert "never on record" not in repr(entry)


async def test_a_stream_is_on_record_before_its_last_piece_is_out(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(client.post(PATH, json={**ASKED, "stream": True}))
        taken = await gateway.take()
        await taken.write(b"data: 1\n\n")
        await taken.finish(tail=b"data: [DONE]\n\n")

    (entry,) = gateway.entries
    assert (True, 200, "") == (entry.streamed, entry.status, entry.code)
    assert len(asked.result().content) == entry.answer_bytes
    assert entry.first_ms is not None


async def test_what_the_backend_told_of_its_tokens_is_on_record(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json=ASKED))
    taken = await gateway.take()
    await taken.finish(tail=b"{}", usage={"prompt_tokens": 7, "completion_tokens": 9})

    await asked

    (entry,) = gateway.entries
    assert (7, 9) == (entry.input_tokens, entry.output_tokens)


async def test_tokens_of_an_answer_that_is_read_again_count_once(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    once = {"idempotency-key": "a-key"}
    asked = asyncio.create_task(client.post(PATH, json=ASKED, headers=once))
    await (await gateway.take()).finish(tail=b"{}", usage={"completion_tokens": 9})
    await asked

    again = await client.post(PATH, json=ASKED, headers=once)

    assert 200 == again.status_code
    assert [9, 0] == [entry.output_tokens for entry in gateway.entries]


async def test_token_counts_beyond_reason_are_not_on_record(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": True}))
    taken = await gateway.take()
    await taken.write(b"data: [DONE]\n\n")
    await taken.finish(usage={"prompt_tokens": -7, "completion_tokens": 2**31 + 1})

    await asked

    (entry,) = gateway.entries
    assert (0, 0) == (entry.input_tokens, entry.output_tokens)


async def test_a_backends_error_is_on_record_under_its_status(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json=ASKED))
    taken = await gateway.take()
    await taken.finish(tail=b'{"error": {}}', status=422)

    await asked

    (entry,) = gateway.entries
    assert (422, "backend_422") == (entry.status, entry.code)


async def test_a_request_that_is_refused_is_on_record_without_the_name_it_asked_for(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await client.post(PATH, json={**ASKED, "model": "nobody-knows"})
    await client.post(PATH, content=b"no json")

    assert [("", 404, "model_not_found"), ("", 400, "invalid_request")] == [
        (entry.model, entry.status, entry.code) for entry in gateway.entries
    ]


async def test_nor_is_that_name_on_record_while_nobody_can_say_whether_it_is_one(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async def refuse(*_: object) -> None:
        raise Unavailable

    gateway.parts.catalogue.asked = refuse  # type: ignore[assignment]
    await client.post(PATH, json={**ASKED, "model": "nobody-knows"})

    (entry,) = gateway.entries
    assert ("", 503, "service_unavailable") == (entry.model, entry.status, entry.code)


async def test_a_code_that_a_provider_made_up_is_not_on_record(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json=ASKED))
    await (await gateway.take()).finish(error={"message": "m", "code": "a-secret", "status": 502})

    answer = await asked

    (entry,) = gateway.entries
    assert ("a-secret", genai.OTHER) == (answer.json()["error"]["code"], entry.code)


async def test_a_request_that_nobody_serves_is_on_record_with_its_model() -> None:
    async with running_gateway(no_provider_seconds=0.2) as gateway:
        await gateway.know(provider=False)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            await client.post(PATH, json=ASKED)

        (entry,) = gateway.entries
        assert (MODEL, 503, "no_provider_available") == (entry.model, entry.status, entry.code)
        assert ("", 0, None) == (entry.provider, entry.attempt, entry.first_ms)


async def test_a_client_that_goes_away_is_on_record_as_gone(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        asked = asyncio.create_task(client.post(PATH, json={**ASKED, "stream": True}))
        await gateway.take()
        asked.cancel()
        async with asyncio.timeout(60):
            while not gateway.entries:  # noqa: ASYNC110  # a list tells nobody
                await asyncio.sleep(0.01)

    (entry,) = gateway.entries
    assert (499, "cancelled") == (entry.status, entry.code)
