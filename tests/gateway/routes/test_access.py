"""Who may ask what, where keys are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from inferline.accounts.caller import Caller
from inferline.accounts.key_cache import CACHE_SECONDS
from inferline.accounts.keyring import Keyring
from inferline.accounts.keys import new_key
from inferline.accounts.tenants import Tenant
from inferline.errors import NotAuthenticated
from inferline.fleet.registry import Model, ProviderRecord
from inferline.gateway.app import create_app
from inferline.gateway.prefixes import PREFIXES
from inferline.gateway.routes.access import KeyAccess
from inferline.memory.keys import MemoryKeys
from inferline.memory.tenants import MemoryTenants
from inferline.usage.minutes import MINUTE_MS, Minute
from tests.support.gateway import MODEL, Gateway, running_gateway

TOLD = {"id": "gpu-1", "version": "1", "slots": 1, "models": [{"id": "org/m"}, {"id": "plain"}]}
CHAT = {"model": MODEL, "messages": []}


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
async def locked() -> AsyncIterator[Gateway]:
    async with running_gateway(access="keys", provider_token="not asked for") as found:
        await found.know()
        yield found


@pytest.fixture
async def client(locked: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=locked.url, timeout=60) as found:
        yield found


async def bearer(gateway: Gateway, role: Any = "client", **told: Any) -> dict[str, str]:
    given = {"tenant": "acme", "now_ms": gateway.store.now_ms()} | told
    key, text = new_key(role, "n", **given)
    await gateway.keys.put_key(key)
    return {"authorization": f"Bearer {text}"}


async def test_without_a_key_nothing_but_health_is_answered(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    answered = set()
    document = create_app(locked.parts).openapi()
    asked = [(m, p) for p, methods in document["paths"].items() for m in methods]
    asked += [("get", "/docs"), ("get", "/openapi.json")]

    for method, path in asked:
        response = await client.request(method, path, json=TOLD if method == "post" else None)
        if response.status_code != 401:
            answered.add(path)
        else:
            assert "invalid_api_key" == response.json()["error"]["code"]

    assert {"/v1/health"} == answered
    for prefix in PREFIXES:
        assert 401 == (await client.get(f"{prefix}/models")).status_code


async def test_a_key_opens_what_clients_do_and_its_tenant_is_the_tasks(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    headers = await bearer(locked)

    asking = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT, headers=headers))
    taken = await locked.take()
    await taken.finish(tail=b"{}")

    assert 200 == (await asking).status_code
    assert "acme" == taken.task.tenant
    for path in ("/v1/models", "/v1/providers", "/v1/queue/stats", "/docs", "/openapi.json"):
        assert 200 == (await client.get(path, headers=headers)).status_code, path


async def test_a_key_enrols_nobody(locked: Gateway, client: httpx.AsyncClient) -> None:
    headers = await bearer(locked)

    joined = await client.post("/v1/providers", json=TOLD, headers=headers)
    left = await client.delete("/v1/providers/p1", headers=headers)

    assert [403, 403] == [joined.status_code, left.status_code]
    error = joined.json()["error"]
    assert ("permission_error", "permission_denied") == (error["type"], error["code"])
    assert "inferline providers token" in error["message"]


async def test_a_token_enrols_and_does_nothing_else(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    headers = await bearer(locked, "provider")

    statuses = [
        (await client.post("/v1/providers", json=TOLD, headers=headers)).status_code,
        (await client.post("/v1/chat/completions", json=CHAT, headers=headers)).status_code,
        (await client.get("/v1/models", headers=headers)).status_code,
        (await client.get("/v1/providers", headers=headers)).status_code,
        (await client.get("/docs", headers=headers)).status_code,
        (await client.delete("/v1/providers/gpu-1", headers=headers)).status_code,
    ]

    assert [200, 403, 403, 403, 403, 204] == statuses


async def test_a_token_enrols_only_the_models_that_it_is_for(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    narrow = await bearer(locked, "provider", models=("org/*", "x"))
    wide = await bearer(locked, "provider", models=("org/*", "pl?in"))

    refused = await client.post("/v1/providers", json=TOLD, headers=narrow)
    joined = await client.post("/v1/providers", json=TOLD, headers=wide)
    left = await client.delete("/v1/providers/gpu-1", headers=narrow)

    assert [403, 200, 403] == [r.status_code for r in (refused, joined, left)]
    message = refused.json()["error"]["message"]
    assert "'plain'" in message
    assert "org/*, x" in message


@pytest.fixture
async def many(locked: Gateway) -> Gateway:
    """The gateway with some more models, each with a provider."""
    for name in ("org/a", "org/b", "plain"):
        url = await locked.queue.make(name)
        await locked.registry.put_models([Model(id=name, queues=url)])
        told = {"slots": 1, "running": 0, "healthy": True, "version": "1"}
        await locked.registry.put_provider(ProviderRecord(id=f"p-{name}", models=(name,), **told))
    await locked.counted()
    return locked


@pytest.mark.parametrize("by", ["key", "tenant"])
async def test_a_model_that_is_not_for_a_key_does_not_exist_for_it(
    many: Gateway, client: httpx.AsyncClient, by: str
) -> None:
    if by == "tenant":
        await many.tenants.put_tenant(Tenant(id="acme", models=("org/*",)))
    headers = await bearer(many, **({"models": ("org/*",)} if by == "key" else {}))

    other = await client.get("/v1/models/plain", headers=headers)
    nothing = await client.get("/v1/models/plaim", headers=headers)
    asked = await client.post(
        "/v1/chat/completions", json={**CHAT, "model": "plain"}, headers=headers
    )

    assert [404] * 3 == [response.status_code for response in (other, nothing, asked)]
    assert "model_not_found" == asked.json()["error"]["code"]
    assert "model" == asked.json()["error"]["param"]
    assert other.text == nothing.text.replace("plaim", "plain") == asked.text
    assert 200 == (await client.get("/v1/models/org/a", headers=headers)).status_code


async def test_nothing_that_a_key_can_read_names_a_model_that_is_not_for_it(
    many: Gateway, client: httpx.AsyncClient
) -> None:
    now_ms = many.store.now_ms()
    await many.parts.minutes.add(Minute.of_age(now_ms // MINUTE_MS, "plain", 5))
    headers = await bearer(many, models=("org/*",))
    paths = ("/v1/models", "/v1/providers", "/v1/overview", "/queue/stats")

    told = {path: await client.get(path, headers=headers) for path in paths}
    everything = await client.get("/v1/overview", headers=await bearer(many))

    assert ["org/a", "org/b"] == [one["id"] for one in told["/v1/models"].json()["data"]]
    assert ["p-org/a", "p-org/b"] == [one["id"] for one in told["/v1/providers"].json()["data"]]
    for response in told.values():
        assert 200 == response.status_code
        assert "plain" not in response.text
        assert MODEL not in response.text
    assert {"plain", MODEL, "org/a"} <= {q["model"] for q in everything.json()["queues"]}
    assert "plain" in [one["model"] for one in everything.json()["hour"]["models"]]
    hour = await client.get("/v1/overview/hour?model=plain", headers=headers)
    metrics = await client.get("/metrics", headers=headers)
    assert [404, 403] == [hour.status_code, metrics.status_code]
    assert "plain" not in metrics.text


async def test_a_tier_that_is_not_for_a_key_is_refused_and_named(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    headers = await bearer(locked, tiers=("flex",))

    refused = [
        await client.post("/v1/chat/completions", json={**CHAT, **told}, headers=headers)
        for told in ({}, {"service_tier": "auto"}, {"service_tier": "priority"})
    ]
    taken = asyncio.create_task(
        client.post("/v1/chat/completions", json={**CHAT, "service_tier": "flex"}, headers=headers)
    )
    await (await locked.take(tier="flex")).finish(tail=b"{}")

    assert [403] * 3 == [response.status_code for response in refused]
    error = refused[2].json()["error"]
    assert ("permission_denied", "service_tier") == (error["code"], error["param"])
    assert "'priority'" in error["message"]
    assert 200 == (await taken).status_code


async def test_nothing_is_queued_for_a_request_that_a_key_may_not_make(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    headers = await bearer(locked, models=("other",), tiers=("flex",))

    await client.post("/v1/chat/completions", json=CHAT, headers=headers)
    wide = await bearer(locked, tiers=("flex",))
    await client.post("/v1/chat/completions", json=CHAT, headers=wide)

    assert {} == await locked.store.live_by_slug(10)


async def test_a_cached_caller_costs_no_look_at_its_key_or_tenant() -> None:
    class Looks(MemoryTenants):
        made = 0

        async def tenant(self, tenant_id: str) -> Tenant:
            self.made += 1
            return await super().tenant(tenant_id)

    keys, tenants = MemoryKeys(), Looks()
    key, text = new_key("client", "n", tenant="t", now_ms=0, models=("a*",))
    await keys.put_key(key)
    access = KeyAccess(Keyring(keys, tenants, lambda: 1), Hand())

    found = [await access.caller(text, "client") for _ in range(3)]

    assert [("a*",)] * 3 == [caller.models for caller in found]
    assert 1 == tenants.made


async def test_the_one_token_of_the_settings_opens_nothing_where_keys_are_asked_for(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    headers = {"authorization": "Bearer not asked for"}

    response = await client.post("/v1/providers", json=TOLD, headers=headers)

    assert 401 == response.status_code


async def test_a_key_no_longer_in_force_is_named_and_not_shown(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    headers = await bearer(locked, expires_ms=1)

    response = await client.get("/v1/models", headers=headers)

    assert 401 == response.status_code
    assert "expired" in response.json()["error"]["message"]
    assert headers["authorization"][-20:] not in response.text


async def test_a_caller_that_the_edge_has_established_is_taken(locked: Gateway) -> None:
    app = create_app(locked.parts)

    async def edge(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["caller"] = Caller(tenant="edge", role="client")
        await app(scope, receive, send)

    transport = httpx.ASGITransport(app=edge)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://gateway", timeout=60
    ) as client:
        statuses = [
            (await client.get("/v1/models")).status_code,
            (await client.post("/v1/providers", json=TOLD)).status_code,
        ]

    assert [200, 403] == statuses


async def test_a_key_is_looked_up_once_a_minute_and_a_revocation_seen_by_then() -> None:
    clock, keys = Hand(), MemoryKeys()
    key, text = new_key("client", "n", tenant="t", now_ms=0)
    await keys.put_key(key)
    access = KeyAccess(Keyring(keys, MemoryTenants(), lambda: 1), clock)
    await access.caller(text, "client")
    await keys.revoke(key.id, 1)

    clock.now = CACHE_SECONDS - 1
    assert "t" == (await access.caller(text, "client")).tenant
    clock.now = CACHE_SECONDS
    with pytest.raises(NotAuthenticated):
        await access.caller(text, "client")


async def test_so_many_keys_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferline.accounts.key_cache.CACHE_KEYS_MAX", 2)
    keys = MemoryKeys()
    access = KeyAccess(Keyring(keys, MemoryTenants(), lambda: 1), Hand())

    for _ in range(5):
        key, text = new_key("client", "n", tenant="t", now_ms=0)
        await keys.put_key(key)
        await access.caller(text, "client")

    assert 2 == len(access._keys._callers)


@pytest.mark.parametrize("role", ["client", "admin", "provider"])
@pytest.mark.parametrize("name", ["x-api-key", "API-Key", "Authorization"])
async def test_a_key_may_stand_where_each_sdk_puts_it(
    locked: Gateway, client: httpx.AsyncClient, role: str, name: str
) -> None:
    text = (await bearer(locked, role))["authorization"].removeprefix("Bearer ")

    asked = {
        "client": client.get("/v1/models", headers={name: text}),
        "admin": client.get("/v1/keys", headers={name: text}),
        "provider": client.post("/v1/providers", json=TOLD, headers={name: text}),
    }
    response = await asked.pop(role)
    for unasked in asked.values():
        unasked.close()

    assert 200 == response.status_code


@pytest.mark.parametrize(
    "beside",
    [
        {"authorization": "Bearer"},
        {"authorization": ""},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer unused"},
        {"authorization": "Bearer sk-none", "api-key": "EMPTY"},
        {"api-key": ""},
        {},
    ],
)
async def test_what_shows_no_key_may_stand_beside_one(
    locked: Gateway, client: httpx.AsyncClient, beside: dict[str, str]
) -> None:
    text = (await bearer(locked))["authorization"].removeprefix("Bearer ")

    response = await client.get("/v1/models", headers={**beside, "x-api-key": text})

    assert 200 == response.status_code


async def test_the_same_key_may_be_shown_three_times_and_not_two_different_ones(
    locked: Gateway, client: httpx.AsyncClient
) -> None:
    one, other = [(await bearer(locked))["authorization"] for _ in range(2)]
    text = one.removeprefix("Bearer ")

    same = {"authorization": one, "x-api-key": text, "api-key": f"Bearer {text}"}
    thrice = await client.get("/v1/models", headers=same)
    both = await client.get("/v1/models", headers={"authorization": other, "x-api-key": text})
    twice = await client.get("/v1/models", headers=[("x-api-key", text), ("x-api-key", other)])

    assert [200, 401, 401] == [response.status_code for response in (thrice, both, twice)]
    assert "different keys" in both.json()["error"]["message"]
    assert text not in both.text


async def test_where_nobody_asks_for_keys_nobody_minds_two(client: httpx.AsyncClient) -> None:
    async with running_gateway() as gateway:
        headers = {"authorization": "Bearer x", "api-key": "y"}
        response = await client.get(f"{gateway.url}/v1/models", headers=headers)

    assert 200 == response.status_code
