"""Two tenants: nothing of one is there for the other, at any address that takes an id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from inferline.accounts.keys import new_key
from inferline.gateway.app import create_app
from inferline.gateway.prefixes import PREFIXES
from tests.support.batches import stored
from tests.support.gateway import MODEL, Gateway, Taken, running_gateway

CHAT = {"model": MODEL, "messages": []}
#: Every address that takes the id of something that belongs to a tenant.
OF_TENANTS = (
    ("get", "/v1/tasks/{task_id}"),
    ("get", "/v1/tasks/{task_id}/stream"),
    ("post", "/v1/tasks/{task_id}/cancel"),
)
#: Those that take the id of something else that belongs to a tenant.
OF_FILES = (
    ("get", "/v1/files/{file_id}"),
    ("delete", "/v1/files/{file_id}"),
    ("get", "/v1/files/{file_id}/content"),
    ("post", "/v1/uploads/{upload_id}/parts"),
    ("post", "/v1/uploads/{upload_id}/complete"),
    ("post", "/v1/uploads/{upload_id}/cancel"),
    ("get", "/v1/batches/{batch_id}"),
    ("post", "/v1/batches/{batch_id}/cancel"),
)
#: Those that take an id, and of nothing that belongs to one: models, and what is not for clients.
OF_NOBODY = {
    ("get", "/v1/models/{model_id}"),
    ("delete", "/v1/providers/{provider_id}"),
    ("post", "/v1/keys/{key_id}/rotate"),
    ("delete", "/v1/keys/{key_id}"),
}


@dataclass
class Two:
    """A gateway and a client of each of two tenants."""

    gateway: Gateway
    acme: httpx.AsyncClient
    globex: httpx.AsyncClient
    asking: list[asyncio.Task[httpx.Response]] = field(default_factory=list)

    async def asked(self, client: httpx.AsyncClient, **fields: Any) -> Taken:
        """Return a task of a tenant, taken by a provider."""
        asking = client.post("/v1/chat/completions", json=CHAT, **fields)
        self.asking.append(asyncio.create_task(asking))
        return await self.gateway.take()


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    async with running_gateway(access="keys") as gateway:
        await gateway.know()
        clients = []
        for tenant in ("acme", "globex"):
            key, text = new_key("client", "n", tenant=tenant, now_ms=gateway.store.now_ms())
            await gateway.keys.put_key(key)
            headers = {"authorization": f"Bearer {text}"}
            clients.append(httpx.AsyncClient(base_url=gateway.url, timeout=60, headers=headers))
        pair = Two(gateway, *clients)
        yield pair
        for asking in pair.asking:
            asking.cancel()
        await asyncio.gather(*pair.asking, return_exceptions=True)
        for client in clients:
            await client.aclose()


def test_every_address_with_an_id_is_in_this_matrix_or_of_nobody() -> None:
    async def documented() -> set[tuple[str, str]]:
        async with running_gateway() as gateway:
            paths = create_app(gateway.parts).openapi()["paths"]
            return {(verb, path) for path in paths if "{" in path for verb in paths[path]}

    assert {*OF_TENANTS, *OF_FILES, *OF_NOBODY} == asyncio.run(documented())


@pytest.mark.parametrize(("verb", "path"), OF_TENANTS)
@pytest.mark.parametrize("state", ["running", "done"])
async def test_another_tenants_id_is_as_good_as_none(
    two: Two, verb: str, path: str, state: str
) -> None:
    taken = await two.asked(two.acme)
    if state == "done":
        await taken.finish(tail=b"{}")
    own, nothing = taken.task.ref.id, "req_" + "0" * 32 + taken.task.ref.id[-8:]

    for prefix in PREFIXES:
        address = prefix + path.removeprefix("/v1")
        refused, missed = [
            await two.globex.request(verb, address.replace("{task_id}", one))
            for one in (own, nothing)
        ]

        assert (404, refused.text) == (refused.status_code, missed.text)
        assert "task_not_found" == refused.json()["error"]["code"]
        assert own not in refused.headers.values()


@pytest.mark.parametrize(("verb", "path"), OF_FILES)
async def test_another_tenants_file_upload_and_batch_are_as_good_as_none(
    two: Two, verb: str, path: str
) -> None:
    parts = two.gateway.parts
    file_id = await stored(parts, b"{}\n", "acme")
    batch = {"input_file_id": file_id, "endpoint": "/v1/responses", "completion_window": "24h"}
    upload = {"bytes": 3, "filename": "f", "mime_type": "text/plain", "purpose": "batch"}
    ids = {
        "{file_id}": file_id,
        "{upload_id}": (await two.acme.post("/v1/uploads", json=upload)).json()["id"],
        "{batch_id}": (await two.acme.post("/v1/batches", json=batch)).json()["id"],
    }
    [(name, own)] = [each for each in ids.items() if each[0] in path]
    body: dict[str, Any] = {"files": {"data": b"x"}} if path.endswith("/parts") else {}
    body = {"json": {"part_ids": ["part_x"]}} if path.endswith("/complete") else body

    for prefix in PREFIXES:
        address = prefix + path.removeprefix("/v1")
        refused, missed = [
            await two.globex.request(verb, address.replace(name, one), **body)
            for one in (own, own[:-4] + "0000")
        ]

        assert (404, 404) == (refused.status_code, missed.status_code)
        assert refused.text.replace(own, "") == missed.text.replace(own[:-4] + "0000", "")
        assert own not in refused.headers.values()


@pytest.mark.parametrize(("verb", "path"), OF_TENANTS)
async def test_its_own_id_is_there(two: Two, verb: str, path: str) -> None:
    taken = await two.asked(two.acme)
    await taken.finish(tail=b"data: [DONE]\n\n", content_type="text/event-stream")

    response = await two.acme.request(verb, path.replace("{task_id}", taken.task.ref.id))

    assert 200 == response.status_code


async def test_a_cancel_of_somebody_else_ends_nothing(two: Two) -> None:
    taken = await two.asked(two.acme)

    await two.globex.post(f"/v1/tasks/{taken.task.ref.id}/cancel")
    await taken.finish(tail=b'{"mine": 1}')

    assert {"mine": 1} == (await two.asking[0]).json()


async def test_an_idempotency_key_is_its_tenants_own(two: Two) -> None:
    headers = {"idempotency-key": "the-same"}
    first = await two.asked(two.acme, headers=headers)
    second = await two.asked(two.globex, headers=headers)
    await first.finish(tail=b'{"whose": "acme"}')
    await second.finish(tail=b'{"whose": "globex"}')

    answers = [await asking for asking in two.asking]
    again = await two.globex.post("/v1/chat/completions", json=CHAT, headers=headers)
    other = await two.globex.post("/v1/chat/completions", json={**CHAT, "n": 2}, headers=headers)

    assert first.task.ref.id != second.task.ref.id
    assert ["acme", "globex"] == [answer.json()["whose"] for answer in answers]
    assert "globex" == again.json()["whose"]
    assert 400 == other.status_code


async def test_a_retry_adopts_no_task_of_another_tenant(two: Two) -> None:
    taken = await two.asked(two.acme)
    lost = await two.gateway.store.renew_reader_lease(taken.task, "a-reader-that-died", -1.0)

    second = await two.asked(two.globex, headers={"x-stainless-retry-count": "1"})

    assert lost
    assert ("acme", "globex") == (taken.task.tenant, second.task.tenant)
    assert taken.task.ref.id != second.task.ref.id
