"""The overview tells what waits, who serves and how the last hour was, from one shared read."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from typing import Any

import httpx
import pytest

from inferline.accounts.keys import new_key
from inferline.commands import status
from inferline.gateway.routes.overview import LATE_MINUTES, LastHour
from inferline.maintenance.live_tasks import EACH_MAX
from inferline.memory.minutes import MemoryMinutes
from inferline.usage.ledger import Entry
from inferline.usage.minutes import MINUTE_MS, Minute, MinuteMetrics
from tests.support.gateway import MODEL, Gateway, running_gateway
from tests.support.seams import new_task

PATH = "/v1/chat/completions"
ASKED = {"model": MODEL, "messages": []}


async def overview(client: httpx.AsyncClient) -> dict[str, Any]:
    response = await client.get("/v1/overview")
    assert 200 == response.status_code, response.text
    document: dict[str, Any] = response.json()
    return document


def queue(document: dict[str, Any], tier: str) -> dict[str, Any]:
    (row,) = (q for q in document["queues"] if (q["model"], q["tier"]) == (MODEL, tier))
    return dict(row)


def noted(number: int, **fields: Any) -> Minute:
    metrics = MinuteMetrics()
    given = {
        "ended_ms": 0,
        "tenant": "t",
        "model": MODEL,
        "tier": "default",
        "path": PATH,
        "streamed": True,
        "status": 200,
        "first_ms": 100,
        "total_ms": 1000,
        "queue_ms": 10,
    }
    metrics.note(Entry(**(given | fields)))
    return Minute(number, MODEL, metrics)


async def test_an_idle_line_waits_for_nothing(client: httpx.AsyncClient) -> None:
    document = await overview(client)

    default = queue(document, "default")
    assert (0, 0, None, 1, 1) == tuple(
        default[name] for name in ("waiting", "running", "oldest_seconds", "providers", "slots")
    )
    assert ["p1"] == [provider["id"] for provider in document["providers"]]
    assert (0, {}, 60) == (
        document["hour"]["total"]["requests"],
        document["hour"]["total"]["errors"],
        len(document["hour"]["minutes"]),
    )


async def test_it_says_how_silent_a_provider_is_that_counts_as_gone(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    document = await overview(client)

    assert gateway.parts.settings.silent_seconds == document["silent_seconds"]


async def test_tasks_are_told_by_tier_with_the_age_of_the_oldest_that_waits(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async with asyncio.TaskGroup() as asking:
        for tier in ("default", "default", "flex"):
            asking.create_task(client.post(PATH, json={**ASKED, "service_tier": tier}))
        taken = [await gateway.take(), await gateway.take(tier="flex")]
        await asyncio.sleep(0.1)

        document = await overview(client)

        for each in [*taken, await gateway.take()]:
            await each.finish(tail=b"{}")
    default, flex = queue(document, "default"), queue(document, "flex")
    assert (1, 1, 1) == (default["waiting"], default["running"], flex["running"])
    assert 0.1 <= default["oldest_seconds"] < 30
    assert (0, None) == (flex["waiting"], flex["oldest_seconds"])


async def test_the_hour_counts_what_the_gateways_have_written(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await client.post(PATH, json={**ASKED, "model": "nobody-knows"})
    await gateway.parts.minute_ledger.flush()
    now = gateway.store.now_ms() // MINUTE_MS
    await gateway.parts.minutes.add(noted(now - 1))
    await gateway.parts.minutes.add(noted(now - 60))

    hour = (await overview(client))["hour"]

    assert (2, {"model_not_found": 1}) == (hour["total"]["requests"], hour["total"]["errors"])
    assert {"", MODEL} == {model["model"] for model in hour["models"]}
    assert [1, 1] == [minute["requests"] for minute in hour["minutes"] if minute["requests"]]
    p50 = hour["total"]["total_ms"]["p50"]
    assert abs(p50 - 1000) <= 100


async def test_tokens_are_told_by_minute_by_model_and_in_total(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    now = gateway.store.now_ms() // MINUTE_MS
    for minute in (now, now - 1):
        metrics = noted(minute, input_tokens=3, output_tokens=20)
        await gateway.parts.minutes.add(metrics)

    hour = (await overview(client))["hour"]

    assert (6, 40) == (hour["total"]["input_tokens"], hour["total"]["output_tokens"])
    assert [40] == [model["output_tokens"] for model in hour["models"]]
    assert [3, 3] == [minute["input_tokens"] for minute in hour["minutes"][-2:]]


async def test_a_minute_tells_how_long_the_oldest_task_had_waited(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    now = gateway.store.now_ms() // MINUTE_MS
    for model, ms in ((MODEL, 4000), ("other", 90_000)):
        await gateway.parts.minutes.add(Minute.of_age(now, model, ms))

    minutes = (await overview(client))["hour"]["minutes"]

    assert minutes[-2]["oldest_seconds"] is None
    assert pytest.approx(90, rel=0.1) == minutes[-1]["oldest_seconds"]


async def test_one_models_hour_is_of_the_same_look(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await gateway.know("org/other", provider=False)
    now = gateway.store.now_ms() // MINUTE_MS
    await gateway.parts.minutes.add(noted(now, output_tokens=20))
    await gateway.parts.minutes.add(Minute(now, "org/other", noted(now).metrics))
    looks = 0
    since = gateway.parts.minutes.since

    async def counted(number: int) -> Any:
        nonlocal looks
        looks += 1
        return await since(number)

    gateway.parts.minutes.since = counted  # type: ignore[method-assign]

    hours = [
        (await client.get("/v1/overview/hour", params={"model": model})).json()
        for model in (MODEL, "org/other", MODEL)
    ]

    assert 1 == looks
    assert [20, 0, 20] == [hour["total"]["output_tokens"] for hour in hours]
    assert [1, 1, 1] == [hour["minutes"][-1]["requests"] for hour in hours]
    assert [MODEL] == [model["model"] for model in hours[0]["models"]]
    assert {} == hours[0]["aws_calls"]


@pytest.mark.parametrize(("asked", "status"), [("nobody-knows", 404), ("x" * 300, 400)])
async def test_the_hour_of_no_model_is_not_there(
    gateway: Gateway, client: httpx.AsyncClient, asked: str, status: int
) -> None:
    answer = await client.get("/v1/overview/hour", params={"model": asked})

    assert status == answer.status_code
    assert ("model_not_found" == answer.json()["error"]["code"]) is (status == 404)


async def test_it_says_whose_tasks_wait_by_share_and_how_many_are_the_viewers() -> None:
    async with (
        running_gateway(access="keys") as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        await gateway.know()
        for tenant, count in (("a", 3), ("b", 1)):
            for _ in range(count):
                task = new_task(gateway.store, model=MODEL)
                await gateway.store.submit(replace(task, tenant=tenant))
        answers = []
        for tenant in ("a", "b", "c"):
            key, text = new_key("client", "n", tenant=tenant, now_ms=gateway.store.now_ms())
            await gateway.keys.put_key(key)
            shown = {"authorization": f"Bearer {text}"}
            answers.append((await client.get("/v1/overview", headers=shown)).json())

    default = [queue(one, "default") for one in answers]
    assert [3, 1, 0] == [one["yours"] for one in default]
    assert [(2, 0.75)] * 3 == [(one["tenants"], one["largest_share"]) for one in default]
    flex = queue(answers[0], "flex")
    assert (0, 0.0, 0) == (flex["tenants"], flex["largest_share"], flex["yours"])


async def test_any_number_of_viewers_share_one_read(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    looks = 0
    snapshot = gateway.registry.snapshot

    async def counted(**how: Any) -> Any:
        nonlocal looks
        looks += 1
        return await snapshot(**how)

    gateway.registry.snapshot = counted  # type: ignore[method-assign]

    await asyncio.gather(*(overview(client) for _ in range(20)))
    await client.get("/v1/queue/stats")

    assert 1 == looks


async def test_models_without_tasks_are_not_asked_for_one_by_one(
    gateway: Gateway, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        await gateway.know(f"idle-{number}")
    await gateway.store.submit(new_task(gateway.store, model=MODEL))
    monkeypatch.setattr(gateway.store, "live", None)

    document = await overview(client)

    assert 1 == queue(document, "default")["waiting"]
    assert 10 == len({one["model"] for one in document["queues"]})


async def test_of_very_many_tasks_each_models_are_told(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await gateway.know("other")
    for model, count in ((MODEL, 2 * EACH_MAX), ("other", 1)):
        for _ in range(count):
            await gateway.store.submit(new_task(gateway.store, model=model))

    document = await overview(client)

    waiting = {one["model"]: one["waiting"] for one in document["queues"] if one["waiting"]}
    assert {MODEL: 2 * EACH_MAX, "other": 1} == waiting


async def test_an_overview_is_of_now_after_nobody_has_looked_for_long() -> None:
    async with (
        running_gateway() as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        await gateway.know()
        await overview(client)
        watched = gateway.parts.clock
        began = watched.monotonic()
        watched.monotonic = lambda: began + 3600  # type: ignore[method-assign]
        await gateway.registry.remove_provider("p1")
        await gateway.counted()

        document = await overview(client)

    assert [] == document["providers"]


async def test_a_minute_that_has_settled_is_read_once() -> None:
    class Asked(MemoryMinutes):
        def __init__(self) -> None:
            super().__init__()
            self.since_numbers: list[int] = []

        async def since(self, number: int) -> list[Minute]:
            self.since_numbers.append(number)
            return await super().since(number)

    store = Asked()
    hour, now = LastHour(store), 1000
    await store.add(noted(now - 30))
    await store.add(noted(now))

    first = await hour.rows(now * MINUTE_MS)
    await store.add(noted(now))
    second = await hour.rows(now * MINUTE_MS)
    third = await hour.rows((now + 35) * MINUTE_MS)

    assert [now - 59, now - LATE_MINUTES, now - LATE_MINUTES] == store.since_numbers
    assert [2, 3, 2] == [sum(r.metrics.requests for r in rows) for rows in (first, second, third)]


async def test_the_command_prints_what_a_gateway_tells(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    options = argparse.Namespace(base_url=f"{gateway.url}/v1", api_key=None, json=False, watch=None)

    code = await asyncio.to_thread(status.run, options, {}, sys.stdout)

    assert 0 == code
    assert MODEL in capsys.readouterr().out
