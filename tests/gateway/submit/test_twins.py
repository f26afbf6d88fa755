"""Two processes that enrol as one provider."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.gateway import Gateway

EARLIER: dict[str, Any] = {
    "id": "gpu-1",
    "nonce": "0000000000001-aaaaaaaa",
    "version": "0.1.0",
    "slots": 4,
    "models": [{"id": "m"}],
}
LATER = {**EARLIER, "nonce": "0000000000002-bbbbbbbb", "slots": 8}
WARNING = "Two processes enrol as the provider gpu-1: give each a PROVIDER_ID"


async def enrolled(client: httpx.AsyncClient, *fields: dict[str, Any]) -> list[str]:
    """Return what each is warned of."""
    answers = [await client.post("/v1/providers", json=one) for one in fields]
    return [answer.raise_for_status().json()["warning"] for answer in answers]


async def listed(gateway: Gateway, client: httpx.AsyncClient) -> dict[str, tuple[int, bool]]:
    await gateway.counted()
    providers = (await client.get("/v1/providers")).json()["data"]
    return {one["id"]: (one["slots"], WARNING in one["warning"]) for one in providers}


async def test_both_are_told_and_listed_and_counted(
    gateway: Gateway, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    warnings = await enrolled(client, EARLIER, LATER, EARLIER, LATER, EARLIER)

    assert [False, False, True, True, True] == [WARNING in one for one in warnings]
    providers = await listed(gateway, client)
    assert {"gpu-1": (8, True), "gpu-1#aaaaaaaa": (4, True)} == {
        name: provider for name, provider in providers.items() if name.startswith("gpu-1")
    }
    assert 2 == (await client.get("/v1/models/m")).json()["providers"]
    assert 1 == sum(WARNING in message for message in caplog.messages)


async def test_a_restart_is_no_second_process(
    gateway: Gateway, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert ["", "", ""] == await enrolled(client, EARLIER, LATER, LATER)

    assert (8, False) == (await listed(gateway, client))["gpu-1"]
    assert WARNING not in caplog.text


async def test_providers_of_an_earlier_release_are_taken_as_before(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    old = {name: value for name, value in EARLIER.items() if name != "nonce"}

    assert ["", ""] == await enrolled(client, old, old)


async def test_the_earlier_one_can_be_taken_off_by_the_name_that_it_is_listed_by(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await enrolled(client, EARLIER, LATER, EARLIER)

    answer = await client.delete("/v1/providers/gpu-1%23aaaaaaaa")

    assert 204 == answer.status_code
    providers = await listed(gateway, client)
    assert {"gpu-1": (8, False)} == {
        n: provider for n, provider in providers.items() if n.startswith("gpu-1")
    }


@pytest.mark.parametrize(
    ("gone", "stays", "slots"), [(EARLIER, LATER, 8), (LATER, EARLIER, 4)], ids=["first", "second"]
)
async def test_who_leaves_takes_only_itself_along(
    gateway: Gateway,
    client: httpx.AsyncClient,
    gone: dict[str, Any],
    stays: dict[str, Any],
    slots: int,
) -> None:
    await enrolled(client, EARLIER, LATER, EARLIER)

    await client.delete(f"/v1/providers/gpu-1?nonce={gone['nonce']}")
    await enrolled(client, stays)

    providers = await listed(gateway, client)
    assert [("gpu-1", (slots, False))] == [
        one for one in providers.items() if one[0].startswith("gpu-1")
    ]
