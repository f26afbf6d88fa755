"""The batch routes, used by OpenAI's SDK, with a provider that works through the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Batch

from inferline.accounts.keys import new_key
from inferline.batches import progress
from inferline.files.ids import new_id
from tests.support.batches import CHAT, ScriptedProvider, jsonl, line, lines_of, refused, stored
from tests.support.gateway import Gateway, running_gateway


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """Yield a gateway that works on batches in the background, and counts at each look."""
    monkeypatch.setattr(progress, "AGE_MS_MIN", 0)
    monkeypatch.setattr(progress, "AGE_SHARE", 0)
    async with running_gateway() as running, running.app.batch_jobs.running():
        await running.know()
        yield running


@pytest.fixture
async def sdk(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    """Yield OpenAI's client of it."""
    url = f"{gateway.url}/v1"
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


async def provider_of(gateway: Gateway) -> ScriptedProvider:
    model = (await gateway.parts.registry.models())["test-model"]
    return ScriptedProvider(gateway.parts, model)


async def uploaded(gateway: Gateway, lines: int = 3, **given: Any) -> str:
    return await stored(gateway.parts, jsonl([line(n) for n in range(lines)]), **given)


async def created(gateway: Gateway, sdk: AsyncOpenAI, lines: int = 3, **given: Any) -> Any:
    file_id = await uploaded(gateway, lines)
    fields: dict[str, Any] = {"endpoint": CHAT, "completion_window": "24h"} | given
    return await sdk.batches.create(input_file_id=file_id, **fields)


async def until(sdk: AsyncOpenAI, batch: Any, *statuses: str) -> Any:
    """Poll a batch until it has one of the statuses."""
    async with asyncio.timeout(60):
        while batch.status not in statuses:
            await asyncio.sleep(0.01)
            batch = await sdk.batches.retrieve(batch.id)
    return batch


async def test_a_batch_is_created_run_and_its_files_are_there(
    gateway: Gateway, sdk: AsyncOpenAI
) -> None:
    batch = await created(gateway, sdk, 250, metadata={"job": "nightly"})
    assert (batch.status, batch.request_counts.total, batch.model) == ("validating", 0, None)
    assert (batch.metadata, batch.expires_at - batch.created_at) == ({"job": "nightly"}, 86400)
    assert (batch.errors, batch.in_progress_at, batch.output_file_id) == (None, None, None)

    batch = await until(sdk, batch, "in_progress")
    assert (batch.request_counts.total, batch.model) == (250, "test-model")
    assert await (await provider_of(gateway)).run() == 3
    batch = await until(sdk, batch, "completed")

    assert (batch.request_counts.completed, batch.request_counts.failed) == (250, 0)
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (1250, 500)
    assert batch.usage.total_tokens == 1750
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    lines = await lines_of(gateway.parts, "local", batch.output_file_id)
    assert (len(lines), batch.error_file_id) == (250, None)


async def test_files_are_uploaded_and_read_by_the_sdk(gateway: Gateway, sdk: AsyncOpenAI) -> None:
    data = jsonl([line(n) for n in range(3)])
    file = await sdk.files.create(file=data, purpose="batch")
    batch = await sdk.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    batch = await until(sdk, batch, "in_progress")
    await (await provider_of(gateway)).run()
    batch = await until(sdk, batch, "completed")

    content = await sdk.files.content(batch.output_file_id)

    ids = [json.loads(each)["custom_id"] for each in content.text.splitlines()]
    assert ids == ["line-0", "line-1", "line-2"]
    output = await sdk.files.retrieve(batch.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    await sdk.files.delete(batch.output_file_id)


async def test_a_batch_looks_as_openai_says_in_each_status(
    gateway: Gateway, sdk: AsyncOpenAI
) -> None:
    done = await until(sdk, await created(gateway, sdk), "in_progress")
    await (await provider_of(gateway)).run()
    await until(sdk, done, "completed")
    wrong = await created(gateway, sdk, 0)
    await until(sdk, wrong, "failed")
    await until(sdk, await sdk.batches.cancel((await created(gateway, sdk)).id), "cancelled")

    async with httpx.AsyncClient(base_url=gateway.url) as client:
        batches = (await client.get("/batches")).json()["data"]

    statuses = [Batch.model_validate(each, strict=True, extra="forbid").status for each in batches]
    assert statuses == ["cancelled", "failed", "completed"]
    assert all(set(each) == set(Batch.model_fields) for each in batches)


async def test_another_tenants_batch_is_not_there() -> None:
    async with running_gateway(access="keys") as gateway, gateway.app.batch_jobs.running():
        await gateway.know()
        file_id = await uploaded(gateway, tenant="acme")
        fields: dict[str, Any] = {"input_file_id": file_id, "endpoint": CHAT}
        async with await keyed(gateway, "acme") as owner, await keyed(gateway, "b") as other:
            batch = await owner.batches.create(**fields, completion_window="24h")

            with pytest.raises(openai.BadRequestError):
                await other.batches.create(**fields, completion_window="24h")
            for call in (other.batches.retrieve, other.batches.cancel):
                with pytest.raises(openai.NotFoundError):
                    await call(batch.id)
            for after in (openai.omit, batch.id):
                assert not (await other.batches.list(after=after)).data
            assert (await until(owner, batch, "in_progress")).request_counts.total == 3


async def keyed(gateway: Gateway, tenant: str) -> AsyncOpenAI:
    key, text = new_key("client", "k", tenant=tenant, now_ms=gateway.store.now_ms())
    await gateway.keys.put_key(key)
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=text, max_retries=0)


async def test_a_file_that_is_wrong_fails_the_batch_and_the_lines_are_named(
    gateway: Gateway, sdk: AsyncOpenAI
) -> None:
    file_id = await stored(gateway.parts, jsonl([line(1), line(1)]) + b"\n{oops\n")
    batch = await sdk.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")

    batch = await until(sdk, batch, "failed")

    assert batch.errors is not None
    assert [(e.code, e.line) for e in batch.errors.data or ()] == [
        ("duplicate_custom_id", 2),
        ("invalid_json_line", 4),
    ]
    assert batch.failed_at
    assert (batch.output_file_id, batch.error_file_id) == (None, None)


async def test_a_batch_is_cancelled_once_and_again(gateway: Gateway, sdk: AsyncOpenAI) -> None:
    batch = await until(sdk, await created(gateway, sdk, 150), "in_progress")
    await (await provider_of(gateway)).run(1)

    batch = await sdk.batches.cancel(batch.id)
    assert (batch.status, batch.output_file_id) == ("cancelling", None)
    batch = await until(sdk, batch, "cancelled")

    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (150, 100, 0)
    assert len(await lines_of(gateway.parts, "local", batch.error_file_id)) == 50
    assert await sdk.batches.cancel(batch.id) == batch


async def test_a_batch_that_has_ended_is_not_cancelled(gateway: Gateway, sdk: AsyncOpenAI) -> None:
    batch = await until(sdk, await created(gateway, sdk), "in_progress")
    await (await provider_of(gateway)).run()
    batch = await until(sdk, batch, "completed")

    with pytest.raises(openai.BadRequestError, match="Cannot cancel a batch with status 'compl"):
        await sdk.batches.cancel(batch.id)


async def test_a_batch_whose_lines_all_fail_has_an_error_file_alone(
    gateway: Gateway, sdk: AsyncOpenAI
) -> None:
    batch = await until(sdk, await created(gateway, sdk, 9), "in_progress")
    provider = await provider_of(gateway)
    provider.answer = refused
    await provider.run()

    batch = await until(sdk, batch, "completed")

    assert (batch.output_file_id, batch.request_counts.failed) == (None, 9)
    [first, *_] = await lines_of(gateway.parts, "local", batch.error_file_id)
    assert (first["response"]["status_code"], first["error"]) == (400, None)


async def test_batches_are_listed_page_by_page(gateway: Gateway, sdk: AsyncOpenAI) -> None:
    ids = []
    for _ in range(5):
        ids.append((await created(gateway, sdk)).id)
        await asyncio.sleep(0.002)  # An id's time has whole milliseconds.

    assert [batch.id async for batch in sdk.batches.list(limit=2)] == ids[::-1]
    page = await sdk.batches.list(limit=5)
    assert not page.has_more


async def test_what_is_wrong_with_the_request_is_named(gateway: Gateway, sdk: AsyncOpenAI) -> None:
    good = {"input_file_id": await uploaded(gateway), "endpoint": CHAT, "completion_window": "24h"}
    purpose = await uploaded(gateway, purpose="user_data")
    cases: list[dict[str, Any]] = [
        {"input_file_id": "file-none"},
        {"input_file_id": new_id("file-", 1)},
        {"input_file_id": await uploaded(gateway, tenant="other")},
        {"input_file_id": purpose},
        {"endpoint": "/v1/moderations"},
        {"completion_window": "30m"},
        {"completion_window": "8d"},
        {"metadata": {"k" * 65: "v"}},
        {"metadata": {str(n): "v" for n in range(17)}},
        {"metadata": {"k": "v" * 513}},
    ]
    for case in cases:
        with pytest.raises(openai.BadRequestError) as error:
            await sdk.batches.create(**(good | case))
        assert error.value.param == next(iter(case)), case
    assert [batch async for batch in sdk.batches.list()] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"metadata": {"k": "\ud800"}},
        {"metadata": {"\udfff": "v"}},
        {"output_expires_after": {"anchor": "created_at", "seconds": "3600"}},
        {"output_expires_after": {"anchor": "created_at", "seconds": True}},
    ],
    ids=str,
)
async def test_what_no_sdk_sends_is_refused(gateway: Gateway, wrong: dict[str, Any]) -> None:
    good = {"input_file_id": await uploaded(gateway), "endpoint": CHAT, "completion_window": "24h"}
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        headers = {"content-type": "application/json"}
        body = json.dumps(good | wrong)
        answer = await client.post("/v1/batches", content=body, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(next(iter(wrong)))


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("body", ["", "{", "[]", "null", "{}x"])
async def test_a_body_that_is_no_object_is_named(
    gateway: Gateway, body: str, content_type: str
) -> None:
    headers = {"content-type": content_type}
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.post("/v1/batches", content=body, headers=headers)

    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, None)
    assert "JSON object" in error["message"]
    assert "content-type: application/json" in error["message"]


async def test_a_page_begins_behind_a_batch_and_nothing_else(
    gateway: Gateway, sdk: AsyncOpenAI
) -> None:
    batch = await created(gateway, sdk)
    for wrong in (batch.input_file_id, "batch_none", batch.id + "\n"):
        with pytest.raises(openai.BadRequestError) as error:
            await sdk.batches.list(after=wrong)
        assert error.value.param == "query.after"
    assert (await sdk.batches.list(after=batch.id)).data == []


@pytest.mark.parametrize("window", ["1h", "36h", "7d"])
async def test_other_windows_are_an_extension(
    gateway: Gateway, sdk: AsyncOpenAI, window: str
) -> None:
    batch = await created(gateway, sdk, completion_window=window)

    assert batch.completion_window == window
    hours = int(window[:-1]) * (24 if window[-1] == "d" else 1)
    assert batch.expires_at - batch.created_at == hours * 3600


async def test_the_files_expire_when_the_client_says_so(gateway: Gateway, sdk: AsyncOpenAI) -> None:
    expiry = {"anchor": "created_at", "seconds": 3600}
    batch = await created(gateway, sdk, output_expires_after=expiry)
    batch = await until(sdk, batch, "in_progress")
    await (await provider_of(gateway)).run()
    batch = await until(sdk, batch, "completed")

    file = await gateway.parts.files.file("local", batch.output_file_id)

    assert file is not None
    assert file.expires_ms - file.created_ms == 3_600_000


@pytest.mark.parametrize("batch_id", ["batch_none", f"batch_{26 * '0'}", "batch_%00"])
async def test_an_unknown_batch_is_not_there(gateway: Gateway, batch_id: str) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        got = await client.get(f"/v1/batches/{batch_id}")
        cancelled = await client.post(f"/v1/batches/{batch_id}/cancel")

    for response in (got, cancelled):
        assert (response.status_code, response.json()["error"]["code"]) == (404, "batch_not_found")


async def test_a_body_of_a_cancellation_is_not_read(gateway: Gateway, sdk: AsyncOpenAI) -> None:
    batch = await created(gateway, sdk)
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        response = await client.post(
            f"/v1/batches/{batch.id}/cancel", content=b"{no json", headers=headers
        )

    assert response.status_code == 200
