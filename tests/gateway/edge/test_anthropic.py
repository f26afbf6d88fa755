"""What Anthropic's SDKs and the programs on them read, at the addresses that they ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx
import pytest

from inferline.fleet.registry import Model
from inferline.gateway.edge.anthropic import error_body
from inferline.streams.reported_error import anthropic_type
from inferline.tasks.store import AttemptOutcome
from tests.support.gateway import MODEL, Gateway, running_gateway

PATH = "/v1/messages"
ASKED: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 8,
    "messages": [{"role": "user", "content": "Hi"}],
}
SHAPED = b'{"type":"error","error":{"type":"rate_limit_error","message":"Slow."}, "x": 1}'


@asynccontextmanager
async def sdk_of(gateway: Gateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    told: dict[str, Any] = {"base_url": gateway.url, "api_key": "none", "max_retries": 0}
    async with anthropic.AsyncAnthropic(**told) as client:
        yield client


@pytest.fixture
async def sdk(gateway: Gateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with sdk_of(gateway) as client:
        yield client


async def read(client: anthropic.AsyncAnthropic) -> None:
    """Read a stream to its end."""
    async for _ in await client.messages.create(**ASKED, stream=True):
        pass


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "name"),
        [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (405, "invalid_request_error"),
            (413, "request_too_large"),
            (422, "invalid_request_error"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (502, "api_error"),
            (503, "overloaded_error"),
            (504, "timeout_error"),
            (529, "overloaded_error"),
        ],
    )
    def test_each_status_has_their_name_for_it(self, status: int, name: str) -> None:
        assert name == anthropic_type(status)

    async def test_ours_have_their_shape_and_both_names_of_the_id(
        self, client: httpx.AsyncClient
    ) -> None:
        response = await client.post(PATH, json={**ASKED, "model": "none"})

        told, found = response.json(), response.headers["request-id"]
        assert 404 == response.status_code
        assert ("error", "not_found_error") == (told["type"], told["error"]["type"])
        assert ("model_not_found", "model") == (told["error"]["code"], told["error"]["param"])
        assert found == response.headers["x-request-id"] == told["request_id"]

    @pytest.mark.parametrize(("method", "path"), [("GET", PATH), ("POST", f"{PATH}/none")])
    async def test_so_have_those_of_addresses(
        self, client: httpx.AsyncClient, method: str, path: str
    ) -> None:
        response = await client.request(method, path)

        assert response.json()["type"] == "error"
        assert response.headers["request-id"]

    async def test_so_has_a_key_that_is_missing(self) -> None:
        async with (
            running_gateway(access="keys") as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
        ):
            response = await client.post(PATH, json=ASKED)

        assert "authentication_error" == response.json()["error"]["type"]
        assert "false" == response.headers["x-should-retry"]

    @pytest.mark.parametrize("compression", ["none", "gzip"])
    async def test_a_backends_that_has_openais_shape_is_told_in_theirs(
        self, compression: str
    ) -> None:
        told = {"error": {"message": "No. " * 500, "type": "BadRequestError", "code": 400}}
        async with running_gateway(compression=compression) as gateway, sdk_of(gateway) as sdk:
            await gateway.know()
            asked = asyncio.create_task(sdk.messages.create(**ASKED))
            await (await gateway.take()).finish(status=400, tail=json.dumps(told).encode())
            with pytest.raises(anthropic.BadRequestError) as caught:
                await asked

        body: Any = caught.value.body
        assert ("error", "invalid_request_error") == (body["type"], body["error"]["type"])
        assert told["error"]["message"] == body["error"]["message"]
        assert caught.value.request_id == body["request_id"]

    async def test_one_that_has_their_shape_passes_to_the_byte(
        self, gateway: Gateway, client: httpx.AsyncClient
    ) -> None:
        asked = asyncio.create_task(client.post(PATH, json=ASKED))
        await (await gateway.take()).finish(status=422, tail=SHAPED)

        assert SHAPED == (await asked).content

    async def test_openais_addresses_keep_what_the_backend_said(
        self, gateway: Gateway, client: httpx.AsyncClient
    ) -> None:
        body = b'{"error": {"message": "No."}}'
        headers = {"anthropic-version": "2023-06-01"}
        asked = client.post("/v1/chat/completions", json=ASKED, headers=headers)
        asking = asyncio.create_task(asked)
        await (await gateway.take()).finish(status=422, tail=body)

        assert body == (await asking).content

    async def test_its_sdk_can_read_what_is_wrong_at_any_address(
        self, sdk: anthropic.AsyncAnthropic
    ) -> None:
        with pytest.raises(anthropic.NotFoundError) as caught:
            await sdk.beta.files.list()

        assert "not_found_error" == caught.value.type
        assert (caught.value.request_id or "").startswith("req_")

    @pytest.mark.parametrize(
        "body",
        [
            b'{"detail":"Not Found"}',
            b'{"error":{"message":"File Not Found"}}',
            b'{"error":{"message":"It refused.","code":"backend_refused"}}',
            b"{}",
        ],
    )
    async def test_a_server_without_the_address_is_named_as_such(
        self, gateway: Gateway, sdk: anthropic.AsyncAnthropic, body: bytes
    ) -> None:
        asked = asyncio.create_task(
            sdk.messages.count_tokens(model=MODEL, messages=ASKED["messages"])
        )
        await (await gateway.take()).finish(status=404, tail=body)

        with pytest.raises(anthropic.NotFoundError, match=r"nothing at /v1/messages/count_tokens"):
            await asked

    @pytest.mark.parametrize(
        "body", [b"no JSON", b"[]", b"null", b'"x"', b'{"error": null}', b'{"error": ["x"]}', b"1"]
    )
    def test_whatever_a_body_is_an_error_has_a_message(self, body: bytes) -> None:
        told = json.loads(error_body(500, body, PATH, "req_1"))

        assert "api_error" == told["error"]["type"]
        assert told["error"]["message"]


class TestStreams:
    async def test_a_stream_that_breaks_says_so_in_their_words(
        self, gateway: Gateway, sdk: anthropic.AsyncAnthropic
    ) -> None:
        reading = asyncio.create_task(read(sdk))
        taken = await gateway.take()
        await taken.write(b'event: ping\ndata: {"type":"ping"}\n\n')
        error = {"message": "It broke.", "code": "provider_lost", "status": 502}
        await gateway.store.finish(taken.task, AttemptOutcome(error=error, chunks=1))

        with pytest.raises(anthropic.APIStatusError, match="api_error"):
            await reading

    async def test_a_refusal_after_the_stream_was_kept_open_is_an_error_event(self) -> None:
        async with running_gateway(first_byte_wait_seconds=0.05) as gateway, sdk_of(gateway) as sdk:
            await gateway.know()
            reading = asyncio.create_task(read(sdk))
            taken = await gateway.take()
            await asyncio.sleep(0.3)
            await taken.finish(status=400, tail=b'{"error": {"message": "Too long."}}')

            with pytest.raises(anthropic.APIStatusError, match=r"Too long\."):
                await reading


class TestModels:
    async def test_their_sdk_lists_them_page_by_page(
        self, gateway: Gateway, sdk: anthropic.AsyncAnthropic
    ) -> None:
        for name in ("a", "b", "org/c"):
            await gateway.know(name, provider=False)

        found = [model async for model in sdk.models.list(limit=2)]
        last = await sdk.models.list(limit=2, before_id=found[-1].id)

        assert ["a", "b", "org/c", MODEL] == [model.id for model in found]
        assert {"model"} == {model.type for model in found}
        assert ["b", "org/c"] == [model.id for model in last.data]
        assert (True, "b", "org/c") == (last.has_more, last.first_id, last.last_id)
        one = await sdk.models.retrieve("org/c")
        assert ("org/c", "org/c", 1970) == (one.id, one.display_name, one.created_at.year)

    async def test_a_date_that_is_none_is_no_error(self, gateway: Gateway, sdk: Any) -> None:
        queues = await gateway.queue.make("odd")
        await gateway.registry.put_models([Model(id="odd", queues=queues, created=10**15)])
        await gateway.counted()

        found = await sdk.models.retrieve("odd")

        assert 1970 == found.created_at.year

    async def test_without_a_page_there_are_all_of_them(
        self, gateway: Gateway, client: httpx.AsyncClient
    ) -> None:
        await gateway.know("a", provider=False)

        told = (await client.get("/v1/models")).json()

        assert ("list", False) == (told["object"], told["has_more"])
        assert ["a", MODEL] == [model["id"] for model in told["data"]]
        assert {"model"} == {model["object"] for model in told["data"]}

    async def test_an_unknown_one_is_not_found_in_their_shape(
        self, sdk: anthropic.AsyncAnthropic
    ) -> None:
        with pytest.raises(anthropic.NotFoundError) as caught:
            await sdk.models.retrieve("none")

        body: Any = caught.value.body
        assert "not_found_error" == body["error"]["type"]
        assert caught.value.request_id

    @pytest.mark.parametrize("limit", ["0", "1001", "x"])
    async def test_a_page_has_one_to_a_thousand(
        self, client: httpx.AsyncClient, limit: str
    ) -> None:
        assert 400 == (await client.get(f"/v1/models?limit={limit}")).status_code


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [*ASKED["messages"], {"role": "system", "content": "Be brief."}]},
        {"thinking": {"type": "adaptive"}},
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
    ],
    ids=["a system's word last", "adaptive thinking", "context management"],
)
async def test_what_claude_code_sends_reaches_the_backend_as_it_is(
    gateway: Gateway, client: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    sent = json.dumps({**ASKED, **fields}).encode()

    asked = asyncio.create_task(client.post(PATH, content=sent))
    taken = await gateway.take()
    await taken.finish(tail=b"{}")

    assert (sent, 200) == (taken.body, (await asked).status_code)
