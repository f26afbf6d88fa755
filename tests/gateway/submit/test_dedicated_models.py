"""A tenant whose prompts are for some providers alone: where its tasks wait, and who is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
import pytest

from inferline.accounts.keys import new_key
from inferline.accounts.tenants import Tenant
from inferline.fleet.enrolment import Credentials
from inferline.fleet.registry import Model
from inferline.names import dedicated_name, slug
from inferline.tasks.queue import Message
from inferline.tasks.task import QUEUE_TIERS
from tests.support.gateway import MODEL, Gateway, running_gateway

CHAT = {"model": MODEL, "messages": []}
RESERVED = dedicated_name(MODEL, "acme")


class Lender:
    """Lends to whoever asks, and notes for which models; has room for so many."""

    def __init__(self) -> None:
        self.lent: list[list[str]] = []
        self.names_max = 100

    def room(self, models: Sequence[str]) -> int:
        return min(len(models), self.names_max)

    async def lend(self, provider_id: str, models: Sequence[Model]) -> Credentials:
        self.lent.append([model.id for model in models])
        return Credentials(access_key="a", secret_key="s")


class Stack:
    """A gateway that asks for keys, with some of each kind."""

    def __init__(self, gateway: Gateway, lender: Lender) -> None:
        self.gateway = gateway
        self.lender = lender
        self.client = httpx.AsyncClient(base_url=gateway.url, timeout=60)
        self.keys: dict[str, dict[str, str]] = {}
        self.ids: dict[str, str] = {}

    async def make(self, name: str, role: Any = "client", **fields: Any) -> None:
        """Make a key, which is its tenant's of the same name."""
        key, text = new_key(role, name, tenant=name, now_ms=self.gateway.store.now_ms(), **fields)
        await self.gateway.keys.put_key(key)
        self.keys[name], self.ids[name] = {"authorization": f"Bearer {text}"}, key.id

    async def enrol(self, token: str, *models: str, **fields: Any) -> dict[str, Any]:
        """Return a provider's grant; it is called like its token."""
        offered = [{"id": model} for model in models or (MODEL,)]
        asked = {"id": token, "version": "1", "slots": 1, "takes_reserved": True} | fields
        response = await self.client.post(
            "/v1/providers", json={**asked, "models": offered}, headers=self.keys[token]
        )
        assert 200 == response.status_code, response.text
        await self.gateway.counted()
        grant: dict[str, Any] = response.json()
        return grant

    def ask(self, who: str, **fields: Any) -> asyncio.Task[httpx.Response]:
        """Ask in a tenant's name."""
        asking = self.client.post(
            "/v1/chat/completions", json={**CHAT, **fields}, headers=self.keys[who]
        )
        return asyncio.create_task(asking)

    async def get(self, who: str, path: str) -> Any:
        """Return what a tenant is told at an address."""
        response = await self.client.get(path, headers=self.keys[who])
        assert 200 == response.status_code, response.text
        return response.json()


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    """Acme's prompts are for the providers with the token `own` alone."""
    lender = Lender()
    async with running_gateway(access="keys", lender=lender) as gateway:
        running = Stack(gateway, lender)
        await running.make("acme")
        await running.make("globex")
        await running.make("own", "provider")
        await running.make("other", "provider")
        await gateway.tenants.put_tenant(Tenant(id="acme", providers=(running.ids["own"],)))
        yield running
        await running.client.aclose()


async def test_its_tasks_are_where_only_its_providers_are_sent(stack: Stack) -> None:
    grants = {token: await stack.enrol(token) for token in ("own", "other")}
    asking = stack.ask("acme")
    taken = await stack.gateway.take(model=RESERVED)
    await taken.finish(tail=b"{}")

    assert 200 == (await asking).status_code
    assert {MODEL, RESERVED} == set(grants["own"]["queues"])
    assert {MODEL} == set(grants["other"]["queues"])
    assert [[MODEL, RESERVED], [MODEL]] == stack.lender.lent
    assert taken.delivery.queue == grants["own"]["queues"][RESERVED]["default"]
    assert slug(RESERVED) == taken.task.ref.slug != slug(MODEL)
    assert (MODEL, "acme") == (taken.task.model, taken.task.tenant)


async def test_a_large_body_is_kept_apart_too(stack: Stack) -> None:
    await stack.enrol("own")
    asking = stack.ask("acme", padding="x" * 400_000)
    taken = await stack.gateway.take(model=RESERVED)
    await taken.finish(tail=b"{}")

    assert 200 == (await asking).status_code
    key = Message.loads(taken.delivery.text).body_key
    assert key is not None
    assert key.startswith(f"{slug(RESERVED)}/")


async def test_everybody_elses_tasks_are_in_the_queue_for_all(stack: Stack) -> None:
    await stack.enrol("own")
    asking = stack.ask("globex")
    taken = await stack.gateway.take()
    await taken.finish(tail=b"{}")

    assert 200 == (await asking).status_code
    assert "globex" == taken.task.tenant


async def test_without_a_provider_of_its_own_a_model_does_not_exist_for_it(stack: Stack) -> None:
    await stack.enrol("other")

    asked = await stack.ask("acme")

    assert (404, "model_not_found") == (asked.status_code, asked.json()["error"]["code"])
    assert f"'{MODEL}'" in asked.json()["error"]["message"]
    assert [] == (await stack.get("acme", "/v1/models"))["data"]
    assert {} == await stack.gateway.store.live_by_slug(10)


async def test_a_name_too_long_for_the_registry_is_no_models(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    async def look(name: str) -> None:
        looked.append(name)

    monkeypatch.setattr(stack.gateway.registry, "model", look)
    answers = [await stack.ask(who, model="\U0001f980" * 256) for who in ("acme", "globex")]

    assert ["model_not_found"] * 2 == [answer.json()["error"]["code"] for answer in answers]
    assert {1024} == {len(name.encode()) for name in looked}


async def test_it_waits_for_its_own_providers_however_many_others_there_are(stack: Stack) -> None:
    await stack.enrol("own")
    await stack.enrol("own", healthy=False)
    await stack.enrol("other")

    asked = await stack.ask("acme")

    assert (503, "no_provider_available") == (asked.status_code, asked.json()["error"]["code"])
    assert "acme" not in asked.text


@pytest.mark.parametrize("name", [RESERVED, dedicated_name(MODEL, "globex"), f"{RESERVED}#acme"])
@pytest.mark.parametrize("who", ["acme", "globex"])
async def test_nobody_can_ask_for_what_is_reserved_by_its_name(
    stack: Stack, who: str, name: str
) -> None:
    await stack.enrol("own")

    asked = await stack.ask(who, model=name)
    response = await stack.client.get(
        f"/v1/models/{name.replace('#', '%23')}", headers=stack.keys[who]
    )

    assert [404, 404] == [asked.status_code, response.status_code]
    assert {} == await stack.gateway.store.live_by_slug(10)


async def test_each_sees_its_own_providers_and_queues_under_the_models_own_name(
    stack: Stack,
) -> None:
    await stack.enrol("own")
    await stack.enrol("other")
    expected = {"acme": ["own"], "globex": ["other", "own"]}

    for who, providers in expected.items():
        [model] = (await stack.get(who, "/v1/models"))["data"]
        overview = await stack.get(who, "/v1/overview")
        listed = (await stack.get(who, "/v1/providers"))["data"]

        assert (MODEL, len(providers)) == (model["id"], model["providers"])
        assert {(MODEL, len(providers))} == {
            (queue["model"], queue["providers"]) for queue in overview["queues"]
        }
        assert list(QUEUE_TIERS) == [queue["tier"] for queue in overview["queues"]]
        for rows in (overview["providers"], listed):
            assert [(one, [MODEL]) for one in providers] == [(p["id"], p["models"]) for p in rows]
        assert "#" not in str([model, overview, listed])


async def test_a_tenants_task_is_found_and_its_key_repeats_it(stack: Stack) -> None:
    await stack.enrol("own")
    headers = stack.keys["acme"] | {"idempotency-key": "once"}
    send = stack.client.post
    asking = asyncio.create_task(send("/v1/chat/completions", json=CHAT, headers=headers))
    taken = await stack.gateway.take(model=RESERVED)
    await taken.finish(tail=b'{"a": 1}')
    await asking

    again = await send("/v1/chat/completions", json=CHAT, headers=headers)
    task = await stack.get("acme", f"/v1/tasks/{taken.task.ref.id}")

    assert {"a": 1} == again.json()
    assert (MODEL, "DONE", {"a": 1}) == (task["model"], task["state"], task["result"])


async def test_models_that_are_not_for_the_tenant_are_not_reserved(stack: Stack) -> None:
    limited = Tenant(id="acme", models=("b*",), providers=(stack.ids["own"],))
    await stack.gateway.tenants.put_tenant(limited)

    grant = await stack.enrol("own", "a", "b1", "b2")

    assert {"a", "b1", "b2", dedicated_name("b1", "acme"), dedicated_name("b2", "acme")} == set(
        grant["queues"]
    )


@pytest.mark.parametrize("fields", [{"takes_reserved": False}, {"models": []}])
async def test_who_cant_take_reserved_tasks_is_not_counted_for_them(
    stack: Stack, fields: Mapping[str, Any]
) -> None:
    if fields.get("models") is None:
        await stack.enrol("own", **fields)
    else:
        response = await stack.client.post(
            "/v1/providers",
            json={"id": "own", "version": "1", "slots": 1, "takes_reserved": True, **fields},
            headers=stack.keys["own"],
        )
        assert 200 == response.status_code

    assert RESERVED not in await stack.gateway.registry.models()


async def test_nothing_is_reserved_where_no_credentials_are_lent() -> None:
    async with running_gateway(access="keys") as gateway:
        stack = Stack(gateway, Lender())
        await stack.make("own", "provider")
        await gateway.tenants.put_tenant(Tenant(id="acme", providers=(stack.ids["own"],)))

        grant = await stack.enrol("own")
        await stack.client.aclose()

    assert {MODEL} == set(grant["queues"])


async def test_what_credentials_cant_name_any_more_is_left_out_and_told_to_the_operator(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    stack.lender.names_max = 3

    grant = await stack.enrol("own", "a", "b")

    assert {"a", "b", dedicated_name("a", "acme")} == set(grant["queues"])
    assert "can't name 1 of 2 dedicated models" in caplog.text


async def test_a_token_that_is_taken_off_the_list_is_told_of_nothing_any_more(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack.gateway.app.enrolments._offers._tenants, "_seconds", 0.0)
    before = await stack.enrol("own")
    await stack.gateway.tenants.put_tenant(Tenant(id="acme", providers=(stack.ids["other"],)))

    after = await stack.enrol("own")
    grant = await stack.enrol("other")

    assert RESERVED in before["queues"]
    assert RESERVED not in after["queues"]
    assert RESERVED in grant["queues"]
    [listed] = (await stack.get("acme", "/v1/providers"))["data"]
    assert "other" == listed["id"]


async def test_heartbeats_read_the_tenants_once_in_a_while(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    kept = stack.gateway.tenants.tenants

    async def counted() -> list[Tenant]:
        reads.append(1)
        return await kept()

    monkeypatch.setattr(stack.gateway.app.enrolments._offers._tenants, "_fetch", counted)

    grants = [await stack.enrol("own") for _ in range(5)]

    assert [True] * 5 == [RESERVED in grant["queues"] for grant in grants]
    assert 1 == len(reads)


async def test_a_provider_leaves_with_a_token_for_the_model_alone(stack: Stack) -> None:
    await stack.make("narrow", "provider", models=(MODEL,))
    tenant = Tenant(id="acme", providers=(stack.ids["narrow"],))
    await stack.gateway.tenants.put_tenant(tenant)
    grant = await stack.enrol("narrow")

    left = await stack.client.delete("/v1/providers/narrow", headers=stack.keys["narrow"])

    assert RESERVED in grant["queues"]
    assert 204 == left.status_code


async def test_a_provider_is_measured_against_those_of_the_same_queue(stack: Stack) -> None:
    slow = {MODEL: {"task_seconds": 4.0}}
    fast = {MODEL: {"task_seconds": 1.0}}
    await stack.enrol("other", speeds=fast)
    await stack.enrol("own", speeds=slow)

    grant = await stack.enrol("own", speeds=slow)

    assert {MODEL: 1, RESERVED: 0} == grant["peers"]
    assert [MODEL] == list(grant["faster"])
    serving = (await stack.gateway.registry.models())[RESERVED].serving
    assert serving is not None
    assert [4.0] == [group.speed.task_seconds for group in serving.speed_groups]
