"""Keys through the API: who may make, list, rotate and take them back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from inferline.accounts.caller import Role
from inferline.accounts.keys import new_key, parse_key
from inferline.gateway.prefixes import PREFIXES
from tests.support.gateway import Gateway, running_gateway


@pytest.fixture
async def locked() -> AsyncIterator[Gateway]:
    async with running_gateway(access="keys") as running:
        await running.know()
        yield running


async def bearer(gateway: Gateway, role: Role) -> dict[str, str]:
    key, text = new_key(role, "n", tenant="ops", now_ms=gateway.store.now_ms())
    await gateway.keys.put_key(key)
    return {"authorization": f"Bearer {text}"}


@pytest.fixture
async def admin(locked: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client with an administrator's key."""
    headers = await bearer(locked, "admin")
    async with httpx.AsyncClient(base_url=locked.url, timeout=60, headers=headers) as http:
        yield http


async def status(client: httpx.AsyncClient, text: str) -> int:
    """Return what a key that reads ``text`` gets."""
    headers = {"authorization": f"Bearer {text}"}
    return (await client.get("/v1/models", headers=headers)).status_code


async def made(admin: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await admin.post("/v1/keys", json={"name": "app", **fields})
    assert 200 == response.status_code, response.text
    key: dict[str, Any] = response.json()
    return key


async def test_a_key_is_told_once_and_works(admin: httpx.AsyncClient) -> None:
    response = await admin.post("/v1/keys", json={"name": "app"})
    listed = await admin.get("/v1/keys")

    key = response.json()
    assert "no-store" == response.headers["cache-control"]
    assert ("client", "app", "app", ["*"]) == tuple(
        key[name] for name in ("role", "name", "tenant", "models")
    )
    assert 200 == await status(admin, key["key"])
    [row] = listed.json()["data"]
    assert {name: value for name, value in key.items() if name != "key"} == row
    parsed = parse_key(key["key"])
    assert parsed is not None
    assert parsed.secret not in listed.text


async def test_a_key_gets_the_scopes_that_were_told(admin: httpx.AsyncClient) -> None:
    scopes = {"models": ["a*", "b"], "tiers": ["flex"], "tenant": "acme"}

    key = await made(admin, **scopes, expires_seconds=3600)

    assert scopes == {name: key[name] for name in scopes}
    assert 3600 == key["expires"] - key["created"]


async def test_a_key_gets_the_limits_that_were_told(admin: httpx.AsyncClient) -> None:
    key = await made(admin, limits={"requests_per_minute": 60, "concurrent_requests": 0})

    [row] = (await admin.get("/v1/keys")).json()["data"]

    expected = {
        "requests_per_minute": 60,
        "tokens_per_minute": None,
        "tokens_per_day": None,
        "concurrent_requests": 0,
    }
    assert expected == key["limits"] == row["limits"]


async def test_a_providers_token_is_made_for_its_models(admin: httpx.AsyncClient) -> None:
    key = await made(admin, role="provider", models=["a*"])
    await made(admin)

    tokens = (await admin.get("/v1/keys?role=provider")).json()["data"]

    assert key["key"].startswith("ilp_")
    assert [key["id"]] == [token["id"] for token in tokens]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": "two words"},
        {"name": "a", "role": "admin"},
        {"name": "a", "model": ["m"]},
        {"name": "a", "models": []},
        {"name": "a", "models": ["a#b"]},
        {"name": "a", "tiers": []},
        {"name": "a", "tiers": ["fast"]},
        {"name": "a", "expires_seconds": 0},
        {"name": "a", "role": "provider"},
        {"name": "a", "role": "provider", "models": ["m"], "tenant": "t"},
        {"name": "a", "role": "provider", "models": ["m"], "limits": {"tokens_per_day": 1}},
        {"name": "a", "limits": {"requests_per_minute": -1}},
        {"name": "a", "limits": {"requests_per_hour": 1}},
        {"name": "a", "limits": {"tokens_per_day": 10**13}},
    ],
)
async def test_what_is_no_key_is_refused_and_not_made(
    admin: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    response = await admin.post("/v1/keys", json=fields)

    assert 400 == response.status_code
    assert "invalid_request" == response.json()["error"]["code"]
    assert [] == (await admin.get("/v1/keys")).json()["data"]


async def test_rotated_a_key_has_two_secrets_for_a_while(admin: httpx.AsyncClient) -> None:
    old = await made(admin, models=["a*"])

    response = await admin.post(f"/v1/keys/{old['id']}/rotate", json={"overlap_seconds": 3600})
    new = response.json()

    assert "no-store" == response.headers["cache-control"]
    assert (old["id"], ["a*"]) == (new["id"], new["models"])
    assert [200, 200] == [await status(admin, one["key"]) for one in (old, new)]
    assert new["old_secret_until"] > new["created"]


async def test_without_an_overlap_the_old_secret_is_of_no_use(admin: httpx.AsyncClient) -> None:
    old = await made(admin)

    new = await admin.post(f"/v1/keys/{old['id']}/rotate", json={"overlap_seconds": 0})

    assert [401, 200] == [await status(admin, one["key"]) for one in (old, new.json())]


async def test_an_overlap_is_a_day_unless_told_and_bounded(admin: httpx.AsyncClient) -> None:
    key = await made(admin)

    day = (await admin.post(f"/v1/keys/{key['id']}/rotate")).json()
    year = await admin.post(f"/v1/keys/{key['id']}/rotate", json={"overlap_seconds": 31_536_000})

    assert 86_400 <= day["old_secret_until"] - key["created"] <= 86_430
    assert 400 == year.status_code


async def test_a_revoked_key_is_refused_and_stays_listed(admin: httpx.AsyncClient) -> None:
    key = await made(admin)

    revoked = await admin.delete(f"/v1/keys/{key['id']}")
    again = await admin.delete(f"/v1/keys/{key['id']}")
    rotated = await admin.post(f"/v1/keys/{key['id']}/rotate")

    assert ("revoked", revoked.json()) == (revoked.json()["state"], again.json())
    assert 401 == await status(admin, key["key"])
    assert 400 == rotated.status_code
    [row] = (await admin.get("/v1/keys")).json()["data"]
    assert "revoked" == row["state"]


async def test_when_a_key_was_last_used_is_listed(
    locked: Gateway, admin: httpx.AsyncClient
) -> None:
    key = await made(admin)
    before = (await admin.get("/v1/keys")).json()["data"][0]["last_used"]

    await status(admin, key["key"])
    after = (await admin.get("/v1/keys")).json()["data"][0]["last_used"]

    assert before is None
    assert key["created"] <= after <= locked.store.now_ms() / 1000


@pytest.mark.parametrize("role", ["client", "provider"])
async def test_nobody_else_gets_at_keys_under_any_address(locked: Gateway, role: Role) -> None:
    headers = await bearer(locked, role)
    there = (await locked.keys.keys(role))[0].id
    asked = [("GET", ""), ("POST", ""), ("POST", f"/{there}/rotate"), ("DELETE", f"/{there}")]

    async with httpx.AsyncClient(base_url=locked.url, headers=headers, timeout=60) as client:
        answers = [
            await client.request(verb, f"{prefix}/keys{rest}", json={"name": "a"})
            for prefix in PREFIXES
            for verb, rest in asked
        ]

    assert {(403, "permission_denied")} == {
        (answer.status_code, answer.json()["error"]["code"]) for answer in answers
    }
    assert 1 == len(await locked.keys.keys("client", "provider", "admin"))


async def test_an_administrator_asks_for_nothing_else(admin: httpx.AsyncClient) -> None:
    asked = [
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/overview"),
        ("GET", "/v1/tasks/req_1"),
        ("GET", "/metrics"),
        ("POST", "/v1/providers"),
        ("DELETE", "/v1/providers/p1"),
        ("GET", "/docs"),
    ]

    answers = [await admin.request(verb, path, json={}) for verb, path in asked]

    assert {403} == {answer.status_code for answer in answers}


async def test_administrators_keys_are_out_of_their_reach(
    locked: Gateway, admin: httpx.AsyncClient
) -> None:
    [own] = await locked.keys.keys("admin")

    rotated = await admin.post(f"/v1/keys/{own.id}/rotate")
    revoked = await admin.delete(f"/v1/keys/{own.id}")
    nothing = await admin.delete("/v1/keys/nothing")
    listed = await admin.get("/v1/keys")

    assert [404] * 3 == [answer.status_code for answer in (rotated, revoked, nothing)]
    assert revoked.text.replace(own.id, "nothing") == nothing.text
    assert "key_not_found" == nothing.json()["error"]["code"]
    assert [] == listed.json()["data"]
    assert [own] == await locked.keys.keys("admin")


async def test_what_can_be_no_id_is_not_looked_for_and_not_repeated(
    locked: Gateway, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    look = locked.keys.key

    async def looked(key_id: str) -> Any:
        asked.append(key_id)
        return await look(key_id)

    key = await made(admin)
    monkeypatch.setattr(locked.keys, "key", looked)
    answers = [await admin.delete(f"/v1/keys/{one}") for one in ("x" * 2000, key["key"])]

    assert ["key_not_found"] * 2 == [answer.json()["error"]["code"] for answer in answers]
    parsed = parse_key(key["key"])
    assert parsed is not None
    assert parsed.secret[:8] not in answers[1].text
    assert [] == asked


async def test_a_gateway_that_asks_for_no_keys_makes_none() -> None:
    async with (
        running_gateway() as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        answers = [await client.get("/v1/keys"), await client.post("/v1/keys", json={"name": "a"})]

        assert [403, 403] == [answer.status_code for answer in answers]
        assert [] == await gateway.keys.keys("client", "provider", "admin")


async def test_no_secret_is_logged(
    admin: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "inferline")
    key = await made(admin)
    new = (await admin.post(f"/v1/keys/{key['id']}/rotate")).json()
    await admin.delete(f"/v1/keys/{key['id']}")

    assert key["id"] in caplog.text
    for text in (key["key"], new["key"]):
        parsed = parse_key(text)
        assert parsed is not None
        assert parsed.secret not in caplog.text
