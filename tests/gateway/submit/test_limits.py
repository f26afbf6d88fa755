"""Requests whose keys and tenants may make only so many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from inferline.accounts.keys import new_key
from inferline.accounts.limits import Limits
from inferline.accounts.rate_counters import DAY_MS, ConditionalUpdate, LimitOwner, RawRow
from inferline.accounts.tenants import Tenant
from inferline.errors import Unavailable
from inferline.memory.rate_counters import MemoryRateCounters
from tests.support.gateway import MODEL, Gateway, Taken, running_gateway

PATH = "/v1/chat/completions"
CHAT = {"model": MODEL, "messages": [], "max_tokens": 100}
TENANT = LimitOwner("tenant", "acme")
LIMITS = [f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")]
TOKENS = [name.replace("requests", "tokens") for name in LIMITS]


class StandingCounters(MemoryRateCounters):
    """Counters whose time stands still, a quarter into a minute; can fail."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 20_000 * DAY_MS + 3_615_000
        self.calls = 0
        self.is_silent = False

    def now_ms(self) -> int:
        return self.now

    async def change(
        self, owner: LimitOwner, change: ConditionalUpdate, write_id: str
    ) -> tuple[bool, RawRow]:
        self.calls += 1
        if self.is_silent:
            raise Unavailable
        return await super().change(owner, change, write_id)

    def counts(self, owner: LimitOwner = TENANT) -> tuple[int, int, int]:
        row = self._rows[owner]
        return row["requests"], row["tokens"], row["open"]


@pytest.fixture
def rate_counters() -> StandingCounters:
    return StandingCounters()


@pytest.fixture
async def locked(rate_counters: StandingCounters) -> AsyncIterator[Gateway]:
    async with running_gateway(
        access="keys", rate_counters=rate_counters, tenant_share=0
    ) as running:
        await running.know()
        yield running


@pytest.fixture
async def client(locked: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=locked.url, timeout=60) as http:
        yield http


async def text_of(gateway: Gateway, limits: Limits | None = None) -> str:
    key, text = new_key(
        "client", "n", tenant="acme", now_ms=gateway.store.now_ms(), limits=limits or Limits()
    )
    await gateway.keys.put_key(key)
    return text


async def bearer(
    gateway: Gateway, limits: Limits | None = None, tenant: Limits | None = None
) -> dict[str, str]:
    if tenant is not None:
        await gateway.tenants.put_tenant(Tenant(id="acme", limits=tenant))
    return {"authorization": f"Bearer {await text_of(gateway, limits)}"}


def waits(gateway: Gateway) -> bool:
    """
    Return whether the gateway has a request that no provider has taken, as far as it has seen.
    """
    return bool(gateway.parts.waiting.oldest_ms(gateway.store.now_ms()))


async def until(look: Any) -> None:
    async with asyncio.timeout(60):
        while not look():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


async def answered(gateway: Gateway, asking: Any, **outcome: Any) -> httpx.Response:
    """Return the answer to a request that the test serves."""
    asked = asyncio.ensure_future(asking)
    await (await gateway.take()).finish(**{"tail": b"{}", **outcome})
    response: httpx.Response = await asked
    await gateway.app.rate_limiter.flush()
    return response


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


async def test_an_answer_tells_how_the_limits_stand_as_openai_does(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    own, all_ = Limits(requests_per_minute=10, tokens_per_minute=1000), Limits(tokens_per_day=900)
    headers = await bearer(locked, own, all_)

    response = await answered(locked, client.post(PATH, json=CHAT, headers=headers))

    left = 900 - 100 - (len(response.request.content) + 3) // 4
    assert ["10", "9", "45s"] == [response.headers[name] for name in LIMITS]
    assert ["900", str(left), "22h59m45s"] == [response.headers[name] for name in TOKENS]


async def test_a_stream_and_an_error_tell_it_too(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    headers = await bearer(locked, Limits(requests_per_minute=10))
    asked = asyncio.create_task(client.post(PATH, json={**CHAT, "stream": True}, headers=headers))
    taken = await locked.take()
    await taken.write(b"data: [DONE]\n\n")
    await taken.finish()
    stream = await asked
    refused = await answered(
        locked, client.post(PATH, json=CHAT, headers=headers), status=422, tail=b'{"error": {}}'
    )

    assert ["10", "9"] == [stream.headers[name] for name in LIMITS[:2]]
    assert (422, "8") == (refused.status_code, refused.headers[LIMITS[1]])


async def test_where_there_are_no_limits_nothing_is_told(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        response = await answered(gateway, client.post(PATH, json=CHAT))

    assert 200 == response.status_code
    assert [] == [name for name in response.headers if name.startswith("x-ratelimit")]


async def test_more_than_may_be_is_refused_and_nothing_of_it_stored(
    locked: Gateway, client: httpx.AsyncClient, rate_counters: StandingCounters
) -> None:
    headers = await bearer(locked, Limits(requests_per_minute=1))
    await answered(locked, client.post(PATH, json=CHAT, headers=headers))

    refused = await client.post(PATH, json=CHAT, headers=headers)

    error = refused.json()["error"]
    assert (429, "requests", "rate_limit_exceeded") == (
        *(refused.status_code, error["type"]),
        error["code"],
    )
    assert ["1", "0", "45s"] == [refused.headers[name] for name in LIMITS]
    assert "45" == refused.headers["retry-after"]
    assert refused.headers["x-request-id"].startswith("req_")
    assert {} == await locked.store.live_by_slug(10)
    entry = locked.entries[-1]
    assert (429, "rate_limit_exceeded", MODEL) == (entry.status, entry.code, entry.model)
    assert (1, 0) == rate_counters.counts()[::2]


async def test_what_was_reserved_becomes_what_was_used(
    locked: Gateway, client: httpx.AsyncClient, rate_counters: StandingCounters
) -> None:
    headers = await bearer(locked)
    asked = asyncio.create_task(client.post(PATH, json=CHAT, headers=headers))
    taken = await locked.take()
    held = rate_counters.counts()

    await taken.finish(tail=b"{}", **usage(7, 9))
    await asked
    await locked.app.rate_limiter.flush()

    assert (1, 1) == held[::2]
    assert 100 < held[1] < 150
    assert (1, 16, 0) == rate_counters.counts()


@pytest.mark.parametrize(
    ("outcome", "charged"),
    [
        ({}, "reserved"),
        (usage(0, 0), 0),
        (usage(700, 900), 1600),
        ({"status": 400, "tail": b'{"error": {}}'}, 0),
        ({"status": 500, "tail": b'{"error": {}}'}, "reserved"),
    ],
)
async def test_what_nobody_tells_is_charged_as_reserved_and_a_refusal_of_the_backend_is_free(
    locked: Gateway,
    client: httpx.AsyncClient,
    rate_counters: StandingCounters,
    outcome: dict[str, Any],
    charged: int | str,
) -> None:
    headers = await bearer(locked)

    response = await answered(locked, client.post(PATH, json=CHAT, headers=headers), **outcome)

    reserved = 100 + (len(response.request.content) + 3) // 4
    assert (1, reserved if charged == "reserved" else charged, 0) == rate_counters.counts()


async def test_so_many_are_under_way_at_once_and_one_more_when_one_has_ended(
    locked: Gateway, client: httpx.AsyncClient, rate_counters: StandingCounters
) -> None:
    headers = await bearer(locked, tenant=Limits(concurrent_requests=2))
    asking = [asyncio.create_task(client.post(PATH, json=CHAT, headers=headers)) for _ in "ab"]
    first, second = await locked.take(), await locked.take()

    refused = await client.post(PATH, json=CHAT, headers=headers)
    await first.finish(tail=b"{}")
    await until(lambda: rate_counters.counts()[2] == 1)
    await locked.app.rate_limiter.flush()
    third = await answered(locked, client.post(PATH, json=CHAT, headers=headers))
    await second.finish(tail=b"{}")
    await asyncio.gather(*asking)
    await locked.app.rate_limiter.flush()

    assert (429, "1") == (refused.status_code, refused.headers["retry-after"])
    assert "may have 2 requests under way at once" in refused.json()["error"]["message"]
    assert 200 == third.status_code
    assert (3, 0) == rate_counters.counts()[::2]


async def test_a_days_tokens_are_a_quota_that_no_sdk_waits_for(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    headers = await bearer(locked, tenant=Limits(tokens_per_day=150))
    await answered(locked, client.post(PATH, json=CHAT, headers=headers))

    refused = await client.post(PATH, json=CHAT, headers=headers)

    error = refused.json()["error"]
    assert (429, "insufficient_quota") == (refused.status_code, error["code"])
    assert "insufficient_quota" == error["type"]
    assert "false" == refused.headers["x-should-retry"]


async def test_a_request_that_no_queue_takes_leaves_no_trace(
    locked: Gateway, client: httpx.AsyncClient, rate_counters: StandingCounters
) -> None:
    async def fail(*counts: Any) -> None:
        raise Unavailable

    headers = await bearer(locked)
    locked.queue.send = fail  # type: ignore[method-assign]
    response = await client.post(PATH, json=CHAT, headers=headers)
    await locked.app.rate_limiter.flush()

    assert 503 == response.status_code
    assert (0, 0, 0) == rate_counters.counts()


async def test_one_that_nobody_served_leaves_none_either(rate_counters: StandingCounters) -> None:
    async with running_gateway(
        access="keys", rate_counters=rate_counters, no_provider_seconds=0.2
    ) as gateway:
        await gateway.know(provider=False)
        headers = await bearer(gateway)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            response = await client.post(PATH, json=CHAT, headers=headers)
        await gateway.app.rate_limiter.flush()

    assert "no_provider_available" == response.json()["error"]["code"]
    assert (0, 0, 0) == rate_counters.counts()


@pytest.mark.parametrize("runs", [False, True])
async def test_a_client_that_leaves_pays_for_what_ran(
    locked: Gateway, client: httpx.AsyncClient, rate_counters: StandingCounters, runs: bool
) -> None:
    headers = await bearer(locked)
    asked = asyncio.create_task(client.post(PATH, json=CHAT, headers=headers))
    await until(lambda: waits(locked))
    if runs:
        await locked.take()
        await until(lambda: not waits(locked))

    asked.cancel()
    await until(lambda: not rate_counters.counts()[2])

    requests, tokens, _ = rate_counters.counts()
    assert (int(runs), runs) == (requests, tokens > 100)


async def test_what_goes_on_without_its_gateway_is_charged_there_though_it_still_waits(
    locked: Gateway, client: httpx.AsyncClient, rate_counters: StandingCounters
) -> None:
    headers = await bearer(locked)
    asked = asyncio.create_task(client.post(PATH, json=CHAT, headers=headers))
    await until(lambda: waits(locked))

    locked.parts.closing.set()
    response = await asked
    await locked.app.rate_limiter.flush()

    assert "gateway_stopping" == response.json()["error"]["code"]
    requests, tokens, under_way = rate_counters.counts()
    assert (1, True, 0) == (requests, tokens > 100, under_way)


async def test_a_repeat_of_a_task_that_is_there_is_not_charged_again(
    locked: Gateway, client: httpx.AsyncClient, rate_counters: StandingCounters
) -> None:
    headers = await bearer(locked) | {"idempotency-key": "once"}
    await answered(locked, client.post(PATH, json=CHAT, headers=headers), **usage(7, 9))

    again = await client.post(PATH, json=CHAT, headers=headers)
    await locked.app.rate_limiter.flush()

    assert 200 == again.status_code
    assert (2, 16, 0) == rate_counters.counts()


async def test_going_on_with_a_stream_is_no_request(
    locked: Gateway, client: httpx.AsyncClient, rate_counters: StandingCounters
) -> None:
    headers = await bearer(locked)
    asked = asyncio.create_task(client.post(PATH, json={**CHAT, "stream": True}, headers=headers))
    taken = await locked.take()
    await taken.write(b"data: [DONE]\n\n")
    await taken.finish()
    task_id = (await asked).headers["x-request-id"]
    await locked.app.rate_limiter.flush()
    calls = rate_counters.calls

    resumed = await client.get(f"/v1/tasks/{task_id}/stream", headers=headers)

    assert 200 == resumed.status_code
    assert calls == rate_counters.calls


async def test_what_is_refused_for_its_body_or_its_model_costs_no_call(
    locked: Gateway, client: httpx.AsyncClient, rate_counters: StandingCounters
) -> None:
    headers = await bearer(locked)

    statuses = [
        (await client.post(PATH, content=b"no json", headers=headers)).status_code,
        (await client.post(PATH, json={**CHAT, "model": "none"}, headers=headers)).status_code,
    ]

    assert ([400, 404], 0) == (statuses, rate_counters.calls)


async def test_without_its_meters_a_gateway_takes_nothing(
    locked: Gateway, client: httpx.AsyncClient, rate_counters: StandingCounters
) -> None:
    headers = await bearer(locked)
    rate_counters.is_silent = True

    refused = await client.post(PATH, json=CHAT, headers=headers)

    assert (503, "service_unavailable") == (
        refused.status_code,
        refused.json()["error"]["code"],
    )
    assert {} == await locked.store.live_by_slug(10)


async def test_an_end_that_nobody_foresaw_holds_nothing(
    locked: Gateway, client: httpx.AsyncClient, rate_counters: StandingCounters
) -> None:
    async def fail(*counts: Any, **more: Any) -> None:
        raise RuntimeError

    headers = await bearer(locked)
    locked.parts.watch.next_change = fail  # type: ignore[method-assign,assignment]
    response = await client.post(PATH, json=CHAT, headers=headers)
    await locked.app.rate_limiter.flush()

    assert 500 == response.status_code
    assert 0 == rate_counters.counts()[2]
    assert ["internal_error"] == [entry.code for entry in locked.entries]


async def serve(gateway: Gateway, **outcome: Any) -> Taken:
    taken = await gateway.take()
    answer = b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[]}'
    await taken.finish(**{"tail": answer, **outcome})
    return taken


async def test_openais_sdk_raises_its_rate_limit_error_and_reads_the_headers(
    locked: Gateway,
) -> None:
    text = await text_of(locked, Limits(requests_per_minute=1, tokens_per_minute=5000))
    asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    async with openai.AsyncOpenAI(
        base_url=f"{locked.url}/v1", api_key=text, max_retries=0
    ) as client:
        asking = asyncio.ensure_future(client.chat.completions.with_raw_response.create(**asked))
        await serve(locked)
        raw = await asking
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(**asked)

    assert ["1", "0", "45s"] == [raw.headers[name] for name in LIMITS]
    assert "5000" == raw.headers[TOKENS[0]]
    error = refused.value
    assert ("rate_limit_exceeded", "requests", 429) == (error.code, error.type, error.status_code)
    assert "45" == error.response.headers["retry-after"]
    assert "0" == error.response.headers[LIMITS[1]]


async def test_openais_sdk_does_not_wait_for_another_day(
    locked: Gateway, rate_counters: StandingCounters
) -> None:
    text = await text_of(locked, Limits(tokens_per_day=1200))
    asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    async with openai.AsyncOpenAI(
        base_url=f"{locked.url}/v1", api_key=text, max_retries=3
    ) as client:
        asking = asyncio.ensure_future(client.chat.completions.create(**asked))
        await serve(locked)
        await asking
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(**asked)

    assert "insufficient_quota" == refused.value.code
    assert 2 == len(locked.entries)


async def test_no_secret_is_in_a_refusal(locked: Gateway, client: httpx.AsyncClient) -> None:
    text = await text_of(locked, Limits(requests_per_minute=1))
    headers = {"authorization": f"Bearer {text}"}
    await answered(locked, client.post(PATH, json=CHAT, headers=headers))

    refused = await client.post(PATH, json=CHAT, headers=headers)

    assert text.split("_")[1] in refused.text
    assert text.split("_")[2] not in refused.text
