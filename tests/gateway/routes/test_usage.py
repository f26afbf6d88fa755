"""The usage routes: what a tenant has used, and its last requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from inferline.accounts.keys import new_key
from inferline.usage.usage import HOUR, SLICE_MS, Usage, UsageKey, Watermarks
from tests.support.gateway import MODEL, Gateway, running_gateway

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "a-secret-prompt"}]}


@pytest.fixture
async def locked() -> AsyncIterator[Gateway]:
    """A gateway that asks for keys, where all that has ended by now was counted."""
    async with running_gateway(access="keys") as found:
        await found.know()
        usage = found.parts.usage
        await usage.advance(Watermarks(first_pass=usage.now_ms() // SLICE_MS - 1))
        yield found


@pytest.fixture
async def client(locked: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=locked.url, timeout=60) as found:
        yield found


async def bearer(gateway: Gateway, tenant: str) -> tuple[str, dict[str, str]]:
    """A new key's id, and the header that shows it."""
    key, text = new_key("client", "n", tenant=tenant, now_ms=gateway.store.now_ms())
    await gateway.keys.put_key(key)
    return key.id, {"authorization": f"Bearer {text}"}


async def answered(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], **outcome: Any
) -> str:
    """A request that is asked and answered; its id."""
    asked = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT, headers=headers))
    taken = await gateway.take()
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    await taken.finish(**{"tail": b'{"text": "a-secret-answer"}', "usage": usage} | outcome)
    return (await asked).headers["x-request-id"]


async def test_a_key_is_told_of_its_own_tenant_by_what_it_asks(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    key_id, own = await bearer(locked, "acme")
    _, others = await bearer(locked, "other")
    for headers, status in ((own, 200), (own, 429), (others, 200)):
        await answered(locked, client, headers, status=status)

    told = await client.get("/v1/usage?by=tenant,key,model,provider&since=30m", headers=own)

    assert 200 == told.status_code, told.text
    [row] = told.json()["data"]
    queue_seconds, run_seconds = row.pop("queue_seconds"), row.pop("run_seconds")
    assert row == {
        "object": "usage",
        "tenant": "acme",
        "key": key_id,
        "model": MODEL,
        "provider": "p1",
        "requests": 2,
        "answered": 1,
        "refused": 1,
        "failed": 0,
        "cancelled": 0,
        "expired": 0,
        "attempts": 2,
        "input_tokens": 10,
        "output_tokens": 14,
        "aws_calls": 0,
    }
    assert 0 <= queue_seconds < 20
    assert 0 <= run_seconds < 20


async def test_what_is_kept_is_told_with_its_time(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    _, own = await bearer(locked, "acme")
    usage, now = locked.parts.usage, locked.parts.usage.now_ms()
    hour = now // HOUR.ms - 1
    kept = {UsageKey("acme", "k", "m", "p"): Usage(requests=3, run_ms=1500, aws_calls=9)}
    await usage.put(HOUR, hour, 0, kept)

    told = (await client.get("/v1/usage?by=hour", headers=own)).json()

    assert told["until"] - told["since"] == 24 * 3600
    assert 0 <= told["until"] - told["counted_until"] <= 2 * SLICE_MS // 1000
    [row] = told["data"]
    assert (3, 1.5, 9) == (row["requests"], row["run_seconds"], row["aws_calls"])
    assert row["hour"].endswith(":00Z")
    assert {"model", "tenant", "day"}.isdisjoint(row)


async def test_the_last_requests_are_told_one_by_one_and_no_word_of_theirs(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    key_id, own = await bearer(locked, "acme")
    _, others = await bearer(locked, "other")
    ids = [await answered(locked, client, own, status=status) for status in (200, 400)]
    await answered(locked, client, others)

    told = await client.get("/v1/usage/requests", headers=own)
    last = await client.get("/v1/usage/requests?limit=1", headers=own)

    rows = told.json()["data"]
    assert set(ids) == {row["id"] for row in rows}
    by_id = {row["id"]: row for row in rows}
    assert ("refused", 400, "acme", key_id, MODEL, "p1", 1, 5, 7) == tuple(
        by_id[ids[1]][name]
        for name in (
            *("outcome", "status", "tenant", "key", "model", "provider", "attempts"),
            *("input_tokens", "output_tokens"),
        )
    )
    assert 1 == len(last.json()["data"])
    assert "a-secret" not in told.text


async def test_where_no_keys_are_asked_for_all_usage_is_one_tenants(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as anyone:
        await answered(gateway, anyone, {})

        told = (await anyone.get("/v1/usage/requests")).json()["data"]

    assert [("local", "")] == [(row["tenant"], row["key"]) for row in told]


@pytest.mark.parametrize(
    ("query", "param"),
    [("by=status", "by"), ("since=yesterday", "since"), ("until=7w", "until")],
)
async def test_what_cannot_be_told_is_refused(
    locked: Gateway, client: httpx.AsyncClient, query: str, param: str
) -> None:
    _, own = await bearer(locked, "acme")

    refused = await client.get(f"/v1/usage?{query}", headers=own)

    assert 400 == refused.status_code
    assert param == refused.json()["error"]["param"]
