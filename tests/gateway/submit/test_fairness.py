"""Who has more than its share open: where its messages go, and what stays as it was."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from inferline.accounts.keys import new_key
from inferline.gateway.submit import repeat
from inferline.gateway.submit.submission import Submission
from inferline.tasks.task import TIERS, Task
from inferline.validation import payload
from tests.support.gateway import MODEL, Gateway, running_gateway

PATH = "/v1/chat/completions"
BODY = json.dumps({"model": MODEL, "messages": []}).encode()
SLOTS = 2


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running_gateway() as running:
        await running.know(slots=SLOTS)
        yield running


async def draft(gateway: Gateway) -> Submission:
    task_id = f"req_{uuid.uuid4().hex}"
    return await gateway.app.submitter.prepare(task_id, PATH, payload.read(BODY), BODY)


async def submitted(gateway: Gateway, *, tenant_open: int, key: str = "") -> Task:
    """Return a task of whose tenant so many requests are open with it."""

    async def stays() -> bool:
        return False

    seat = await repeat.submit(
        gateway.app.submitter,
        replace(await draft(gateway), tenant_open=tenant_open),
        is_retry=False,
        key=key,
        is_gone=stays,
    )
    return seat.task


async def waiting(gateway: Gateway) -> dict[str, int]:
    """Return how many messages there are in each tier's queue."""
    queues = await gateway.queue.make(MODEL)
    return {tier: len(gateway.queue.messages(queues[tier])) for tier in TIERS}


async def test_a_request_beyond_its_tenants_share_waits_in_the_next_queue(gateway: Gateway) -> None:
    for count in range(1, 6):
        await submitted(gateway, tenant_open=count)

    assert {"priority": 0, "default": SLOTS, "flex": 3} == await waiting(gateway)


async def test_what_the_keys_of_a_tenant_have_open_is_counted_together() -> None:
    async with running_gateway(access="keys") as gateway:
        await gateway.know(slots=SLOTS)
        keys = [await key_of(gateway, tenant) for tenant in ("heavy", "heavy", "light")]
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:

            async def ask(key: str) -> None:
                headers = {"authorization": f"Bearer {key}"}
                await client.post(PATH, content=BODY, headers=headers)

            asking = []
            for sent, key in enumerate([keys[0], keys[1], keys[0], keys[1], keys[2]], 1):
                asking.append(asyncio.create_task(ask(key)))
                async with asyncio.timeout(60):
                    while sum((await waiting(gateway)).values()) < sent:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)  # nobody tells

            assert {"priority": 0, "default": SLOTS + 1, "flex": 2} == await waiting(gateway)

            for tier in ["default"] * (SLOTS + 1) + ["flex"] * 2:
                await (await gateway.take(tier=tier)).finish(tail=b"{}")
            await asyncio.gather(*asking)


async def key_of(gateway: Gateway, tenant: str) -> str:
    key, text = new_key("client", "n", tenant=tenant, now_ms=gateway.store.now_ms())
    await gateway.keys.put_key(key)
    return text


async def test_it_keeps_its_tier_and_is_answered_like_any(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    task = await submitted(gateway, tenant_open=SLOTS + 1)
    taken = await gateway.take(tier="flex")
    await taken.finish(tail=b'{"a": 1}')

    shown = (await client.get(f"/v1/tasks/{task.ref.id}")).json()

    assert task.ref == taken.task.ref
    assert ("DONE", "default", {"a": 1}) == (shown["state"], shown["tier"], shown["result"])


async def test_the_overview_counts_it_by_its_tier(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await submitted(gateway, tenant_open=SLOTS + 1)

    queues = (await client.get("/v1/overview")).json()["queues"]

    waiting = {queue["tier"]: queue["waiting"] for queue in queues}
    assert {"priority": 0, "default": 1, "flex": 0, "batch": 0} == waiting


@pytest.mark.parametrize(("tenant_open", "tier"), [(1, "default"), (SLOTS + 1, "flex")])
async def test_a_message_that_is_sent_again_goes_where_a_new_one_would(
    gateway: Gateway, tenant_open: int, tier: str
) -> None:
    submission = replace(await draft(gateway), tenant_open=tenant_open)
    await gateway.store.submit(submission.task)

    await gateway.app.submitter.send_again(submission)

    assert {tier: 1} == {name: n for name, n in (await waiting(gateway)).items() if n}


async def test_to_send_a_request_twice_is_no_way_past_the_others(gateway: Gateway) -> None:
    first = await submitted(gateway, tenant_open=SLOTS + 1, key="a-key")
    second = await submitted(gateway, tenant_open=SLOTS + 2, key="a-key")

    assert first.ref == second.ref
    assert {"priority": 0, "default": 0, "flex": 2} == await waiting(gateway)


async def test_where_nobody_counts_everybody_waits_in_the_tier_that_was_asked_for(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = [asyncio.create_task(client.post(PATH, content=BODY)) for _ in range(3 * SLOTS)]
    for _ in asked:
        taken = await gateway.take()
        await taken.finish(tail=b"{}")

    assert {200} == {(await one).status_code for one in asked}
