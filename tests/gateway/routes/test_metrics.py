"""What Prometheus reads at the gateway."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from inferline.accounts.keys import new_key
from inferline.errors import Unavailable
from inferline.gateway.app import create_app
from inferline.telemetry import genai
from inferline.usage.ledger import Entry
from tests.support.gateway import MODEL, Gateway, running_gateway
from tests.support.prometheus import samples, value

PATH = "/v1/chat/completions"
CANARY = "canary-of-a-prompt"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": CANARY}]}
CHAT = {"gen_ai_operation_name": "chat", "gen_ai_request_model": MODEL}


def entry(**given: Any) -> Entry:
    told: dict[str, Any] = {
        "ended_ms": 0, "tenant": "a-tenant", "model": MODEL, "tier": "default", "path": PATH,
        "streamed": True, "status": 200, "provider": "a-provider", "attempt": 1, "queue_ms": 20,
        "first_ms": 70, "total_ms": 900, "answer_bytes": 15, "input_tokens": 3, "output_tokens": 8,
    }  # fmt: skip
    return Entry(**told | given)


async def scraped(client: httpx.AsyncClient) -> str:
    answer = await client.get("/metrics")
    assert 200 == answer.status_code, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.text


async def test_an_answer_is_told_by_model_and_operation(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    gateway.parts.ledger.record(entry())

    text = await scraped(client)

    assert 0.9 == value(text, "gen_ai_server_request_duration_seconds_sum", **CHAT)
    assert 0.07 == value(text, "gen_ai_server_time_to_first_token_seconds_sum", **CHAT)
    waited = {"gen_ai_request_model": MODEL, "tier": "default"}
    assert 0.02 == value(text, "inferline_queue_wait_seconds_sum", **waited)
    assert 15 == value(text, "inferline_answer_bytes_total", gen_ai_request_model=MODEL)
    tokens = {"gen_ai_request_model": MODEL, "gen_ai_token_type": "input"}
    assert 3 == value(text, "inferline_tokens_total", **tokens)
    assert 8 == value(text, "inferline_tokens_total", **tokens | {"gen_ai_token_type": "output"})


@pytest.mark.parametrize("version", ["x", "1.x", "", "9" * 5000])
async def test_of_a_version_that_there_is_not_it_is_told_in_another(
    gateway: Gateway, client: httpx.AsyncClient, version: str
) -> None:
    accept = {"accept": f"application/openmetrics-text; version={version}"}

    answer = await client.get("/metrics", headers=accept)

    assert 200 == answer.status_code
    assert "inferline_overview_up" in answer.text


async def test_a_failure_is_told_by_its_code_and_its_times_do_not_count_as_answers(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    failed = entry(status=502, code="provider_lost", attempt=2)
    gateway.parts.ledger.record(failed)

    text = await scraped(client)

    told = {**CHAT, "error_type": "provider_lost"}
    assert 1 == value(text, "gen_ai_server_request_duration_seconds_count", **told)
    assert 1 == value(text, "inferline_retried_requests_total", gen_ai_request_model=MODEL)
    assert value(text, "gen_ai_server_time_to_first_token_seconds_count", **CHAT) is None


async def test_the_queues_are_told_as_they_stand(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(client.post(PATH, json=ASKED)) for _ in range(2)]
        taken = await gateway.take()
        async with asyncio.timeout(60):
            while len(await gateway.store.live(taken.task.ref.slug, 9)) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

        text = await scraped(client)

        await taken.finish(tail=b"{}")
        await (await gateway.take()).finish(tail=b"{}")
    assert [200, 200] == [answer.result().status_code for answer in waiting]
    queue = {"gen_ai_request_model": MODEL, "tier": "default"}
    assert (1, 1) == (
        value(text, "inferline_queue_depth", **queue),
        value(text, "inferline_running_tasks", **queue),
    )
    assert 1 == value(text, "inferline_model_providers", gen_ai_request_model=MODEL)
    assert 1 == value(text, "inferline_model_slots", gen_ai_request_model=MODEL)
    assert 1 == value(text, "inferline_overview_up")


async def test_no_word_of_what_was_asked_and_nobodys_name_is_a_label(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post(PATH, json=ASKED))
    await (await gateway.take()).finish(tail=CANARY.encode())
    await asked
    gateway.parts.ledger.record(entry())

    text = await scraped(client)

    assert [] == [word for word in (CANARY, "a-tenant", "a-provider", "local") if word in text]


async def test_what_strangers_choose_makes_no_label_of_its_own(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await client.post(PATH, json={**ASKED, "model": "nobody-knows"})
    for code in ("made-up-by-a-provider", "backend_9999"):
        asked = asyncio.create_task(client.post(PATH, json=ASKED))
        await (await gateway.take()).finish(error={"message": "m", "code": code})
        await asked

    text = await scraped(client)

    assert [] == [word for word in ("nobody", "made-up", "backend_9") if word in text]
    told = {**CHAT, "error_type": genai.OTHER}
    assert 2 == value(text, "gen_ai_server_request_duration_seconds_count", **told)


def test_only_so_many_models_are_told_apart() -> None:
    models = genai.Models(2)

    assert ["a", "b", genai.OTHER, "a"] == [models.label(name) for name in "abca"]


async def test_counts_are_told_even_while_the_stores_do_not_answer(
    gateway: Gateway, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object) -> None:
        raise Unavailable

    gateway.parts.ledger.record(entry())
    monkeypatch.setattr(gateway.store, "live_by_slug", silent)

    text = await scraped(client)

    assert 0 == value(text, "inferline_overview_up")
    assert 1 == value(text, "gen_ai_server_request_duration_seconds_count", **CHAT)


async def test_calls_to_aws_are_told_by_service_and_operation(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    gateway.parts.minute_ledger.calls = lambda: {("sqs", "SendMessage"): 7}

    text = await scraped(client)

    told = {"service": "sqs", "operation": "SendMessage"}
    assert 7 == value(text, "inferline_aws_calls_total", **told)


async def test_where_keys_are_asked_for_metrics_need_one() -> None:
    async with running_gateway(access="keys") as gateway:
        key, secret = new_key("client", "prometheus", tenant="team", now_ms=gateway.store.now_ms())
        await gateway.keys.put_key(key)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            without = await client.get("/metrics")
            shown = {"authorization": f"Bearer {secret}"}
            with_one = await client.get("/metrics", headers=shown)

    assert [401, 200] == [without.status_code, with_one.status_code]


async def test_openmetrics_is_one_document(gateway: Gateway, client: httpx.AsyncClient) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}

    answer = await client.get("/metrics", headers=accept)

    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    assert 1 == answer.text.count("# EOF")


def test_an_app_that_nobody_gave_metrics_has_no_such_route(gateway: Gateway) -> None:
    app = create_app(gateway.parts)

    assert "/metrics" not in {getattr(route, "path", "") for route in app.routes}


async def test_every_sample_can_be_read_by_prometheus(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    assert samples(await scraped(client))
