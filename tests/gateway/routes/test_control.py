"""What the gateway tells of itself, and how providers join it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from inferline.accounts.caller import ANYONE
from inferline.clock import SystemClock
from inferline.fleet.enrolment import Enrolment
from inferline.gateway.app import create_app
from inferline.gateway.enrol.enrolments import Enrolments
from inferline.gateway.parts import assemble
from inferline.memory.registry import MemoryRegistry
from inferline.memory.stores import memory_stores
from inferline.settings import Settings
from inferline.tasks.task import QUEUE_TIERS
from tests.support.gateway import MODEL, Gateway, running_gateway

TOLD = {
    "id": "gpu-1",
    "version": "0.1.0",
    "slots": 4,
    "models": [
        {"id": "org/m", "owned_by": "org", "created": 5, "context_length": 8192},
        {"id": "plain"},
    ],
}


async def test_a_provider_is_told_how_many_others_serve_its_models(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    first = (await client.post("/v1/providers", json=TOLD)).json()
    second = (await client.post("/v1/providers", json={**TOLD, "id": "another"})).json()
    again = (await client.post("/v1/providers", json=TOLD)).json()
    ill = {**TOLD, "id": "another", "healthy": False}
    await client.post("/v1/providers", json=ill)
    alone = (await client.post("/v1/providers", json=TOLD)).json()

    assert [0, 1, 1, 0] == [grant["peers"]["org/m"] for grant in (first, second, again, alone)]


async def test_an_enrolled_models_provider_is_listed_at_once(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    grant = (await client.post("/v1/providers", json=TOLD)).json()

    listed = (await client.get("/v1/models")).json()
    one = (await client.get("/v1/models/org/m")).json()

    assert "list" == listed["object"]
    assert [MODEL, "org/m", "plain"] != [model["id"] for model in listed["data"]]
    assert sorted([MODEL, "org/m", "plain"]) == [model["id"] for model in listed["data"]]
    assert {
        "id": "org/m",
        "object": "model",
        "created": 5,
        "owned_by": "org",
        "context_length": 8192,
        "providers": 1,
        # For Anthropic's SDKs.
        "type": "model",
        "lifecycle": "active",
        "display_name": "org/m",
        "created_at": "1970-01-01T00:00:05Z",
        "max_input_tokens": 8192,
    } == one
    assert {"priority", "default", "flex"} == set(grant["queues"]["org/m"])
    assert grant["terms"]["lease_seconds"] == 30


class Calls:
    """A registry, and how often each method of it was called."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self._registry = MemoryRegistry()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._registry, name)
        self.made[name] += callable(method)
        return method


def enrolments_of(registry: Calls) -> Enrolments:
    """Return the enrolments of a gateway whose picture of the registry may be a minute old."""
    stores = replace(memory_stores(), registry=cast(Any, registry))
    return Enrolments(assemble(stores, Settings(registry_seconds=60.0), SystemClock()))


async def test_a_heartbeat_writes_one_row_and_reads_none_of_another_provider() -> None:
    registry = Calls()
    enrolments = enrolments_of(registry)
    fleet = [Enrolment(**{**TOLD, "id": f"gpu-{n}"}) for n in range(30)]
    for enrolment in [*fleet, fleet[0]]:
        await enrolments.enrol(enrolment, ANYONE)
    registry.made.clear()

    grants = [await enrolments.enrol(enrolment, ANYONE) for enrolment in fleet]

    assert {"put_provider": 30, "put_models": 30, "now_ms": 30} == registry.made
    assert {29} == {grant.peers["org/m"] for grant in grants}


async def test_a_restart_of_all_reads_them_once_for_each_that_comes_or_goes() -> None:
    registry = Calls()
    enrolments = enrolments_of(registry)
    fleet = [Enrolment(**{**TOLD, "id": f"gpu-{n}"}) for n in range(20)]
    for enrolment in fleet:
        await enrolments.enrol(enrolment, ANYONE)
    registry.made.clear()

    for enrolment in fleet:
        await enrolments.leave(enrolment.id, ANYONE)
        await enrolments.enrol(enrolment, ANYONE)

    assert registry.made["snapshot"] <= 2 * len(fleet)


async def test_enrolling_again_changes_what_it_says(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/providers", json=TOLD)
    await client.post("/v1/providers", json={**TOLD, "slots": 9, "healthy": False})

    providers = (await client.get("/v1/providers")).json()["data"]

    assert [("gpu-1", 9, False)] == [
        (p["id"], p["slots"], p["healthy"]) for p in providers if p["id"] != "p1"
    ]
    assert 0 == (await client.get("/v1/models/plain")).json()["providers"]


async def test_a_provider_tells_its_speed_and_why_it_takes_no_work(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    state = {"tokens_per_second": 12.5, "reason": "Its LLM server does not answer."}
    await client.post("/v1/providers", json={**TOLD, "healthy": False, **state})

    (provider,) = (
        p for p in (await client.get("/v1/providers")).json()["data"] if p["id"] == "gpu-1"
    )

    assert state == {name: provider[name] for name in state}


async def test_a_provider_of_an_earlier_release_tells_neither(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/providers", json=TOLD)

    (provider,) = (
        p for p in (await client.get("/v1/providers")).json()["data"] if p["id"] == "gpu-1"
    )

    assert (0.0, "") == (provider["tokens_per_second"], provider["reason"])


@pytest.mark.parametrize(
    "fields",
    [
        {"tokens_per_second": -1},
        {"tokens_per_second": "NaN"},
        {"reason": "x" * 201},
        {"tokens_per_second": 1e300},
        {"service_seconds": 1e308},
        {"running": 10**40},
        {"models": [{"id": "a", "created": 10**40}]},
        {"models": [{"id": "a", "context_length": 10**40}]},
        {"speeds": {"org/m": {"task_seconds": 0}}},
        {"speeds": {"org/m": {"task_seconds": 1e308}}},
        {"speeds": {"org/m": {"task_seconds": 1, "tokens_per_second": -1}}},
        {"speeds": {"no name": {"task_seconds": 1}}},
        {"speeds": {f"m{n}": {"task_seconds": 1} for n in range(201)}},
    ],
)
async def test_what_a_provider_tells_is_bounded(
    gateway: Gateway, client: httpx.AsyncClient, fields: dict[str, object]
) -> None:
    assert 400 == (await client.post("/v1/providers", json={**TOLD, **fields})).status_code


async def test_the_slower_provider_hears_of_the_faster_one(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    slow = {**TOLD, "speeds": {"org/m": {"task_seconds": 8.0, "tokens_per_second": 25.0}}}
    quick = {"org/m": {"task_seconds": 2.0, "tokens_per_second": 100.0}}
    await client.post("/v1/providers", json=slow)

    first = (await client.post("/v1/providers", json={**TOLD, "id": "q", "speeds": quick})).json()
    second = (await client.post("/v1/providers", json=slow)).json()

    assert {} == first["faster"]
    assert {"org/m": {"times": 4.0, "fellows": 1}} == second["faster"]


@pytest.mark.parametrize("least", ["task_seconds", "tokens_per_second"])
async def test_however_slow_a_provider_is_the_others_are_finitely_faster(
    gateway: Gateway, client: httpx.AsyncClient, least: str
) -> None:
    quick = {"task_seconds": 5e-324, "tokens_per_second": 1e9}
    slow = {"task_seconds": 1e9, "tokens_per_second": 5e-324} | (
        {"tokens_per_second": 0} if least == "task_seconds" else {}
    )
    enrolment = {**TOLD, "id": "q", "speeds": {"org/m": quick}, "service_seconds": 5e-324}
    await client.post("/v1/providers", json=enrolment)

    grant = await client.post("/v1/providers", json={**TOLD, "speeds": {"org/m": slow}})

    assert 200 == grant.status_code, grant.text
    assert 1e12 >= grant.json()["faster"]["org/m"]["times"]
    for path in ("/v1/models", "/v1/providers", "/v1/overview", "/metrics"):
        assert 200 == (await client.get(path)).status_code, path


async def test_a_model_that_is_named_twice_counts_once(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/providers", json={**TOLD, "models": [{"id": "a"}, {"id": "a"}]})

    assert 1 == (await client.get("/v1/models/a")).json()["providers"]
    [queue] = {
        (row["providers"], row["slots"])
        for row in (await client.get("/v1/queue/stats")).json()["data"]
        if row["model"] == "a"
    }
    assert (1, 4) == queue


async def test_a_provider_of_an_earlier_release_hears_of_nobody_faster(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    quick = {"org/m": {"task_seconds": 2.0, "tokens_per_second": 100.0}}
    await client.post("/v1/providers", json={**TOLD, "id": "q", "speeds": quick})

    assert {} == (await client.post("/v1/providers", json=TOLD)).json()["faster"]


async def test_a_provider_that_leaves_is_gone_and_its_models_stay_known(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/providers", json=TOLD)

    response = await client.delete("/v1/providers/gpu-1")

    assert 204 == response.status_code
    assert "gpu-1" not in (await client.get("/v1/providers")).text
    assert 0 == (await client.get("/v1/models/plain")).json()["providers"]


@pytest.mark.parametrize("prefix", ["/v1", "", "/api", "/api/v1"])
async def test_each_address_is_there_under_each_prefix(
    gateway: Gateway, client: httpx.AsyncClient, prefix: str
) -> None:
    model = f"/models/{MODEL}"
    for path in ("/models", model, "/health", "/queue/stats", "/overview", "/providers"):
        assert 200 == (await client.get(prefix + path)).status_code, path


async def test_health_and_queue_stats_count(gateway: Gateway, client: httpx.AsyncClient) -> None:
    health = (await client.get("/health")).json()
    stats = (await client.get("/queue/stats")).json()

    assert ("ok", 1, 1) == (health["status"], health["models"], health["providers"])
    assert {(tier, 0, 0, 1) for tier in QUEUE_TIERS} == {
        (row["tier"], row["waiting"], row["running"], row["slots"]) for row in stats["data"]
    }


async def test_a_provider_token_is_asked_for_where_one_is_set() -> None:
    async with (
        running_gateway(provider_token="s3cret") as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        without = await client.post("/v1/providers", json=TOLD)
        wrong = await client.delete("/v1/providers/p", headers={"authorization": "Bearer x"})
        right = await client.post(
            "/v1/providers", json=TOLD, headers={"authorization": "Bearer s3cret"}
        )

    assert [401, 401, 200] == [without.status_code, wrong.status_code, right.status_code]
    assert "s3cret" not in repr(gateway.parts.settings)


async def test_the_documentation_lists_every_route_and_no_other(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    assert 200 == (await client.get("/docs")).status_code
    document = (await client.get("/openapi.json")).json()
    paths = document["paths"]

    assert {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/rerank",
        "/v1/score",
        "/v1/tokenize",
        "/v1/detokenize",
        "/v1/tokenizer_info",
        "/v1/infill",
        "/v1/apply-template",
        "/v1/classify",
        "/v1/pooling",
        "/v1/chat/completions/input_tokens",
        "/v1/responses/input_tokens",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/audio/speech",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/images/variations",
        "/v1/tasks/{task_id}",
        "/v1/tasks/{task_id}/stream",
        "/v1/tasks/{task_id}/cancel",
        "/v1/models",
        "/v1/models/{model_id}",
        "/v1/health",
        "/v1/queue/stats",
        "/v1/overview",
        "/v1/overview/hour",
        "/v1/providers",
        "/v1/providers/{provider_id}",
        "/v1/usage",
        "/v1/usage/requests",
        "/v1/files",
        "/v1/files/{file_id}",
        "/v1/files/{file_id}/content",
        "/v1/uploads",
        "/v1/uploads/{upload_id}/parts",
        "/v1/uploads/{upload_id}/complete",
        "/v1/uploads/{upload_id}/cancel",
        "/v1/batches",
        "/v1/batches/{batch_id}",
        "/v1/batches/{batch_id}/cancel",
        "/v1/keys",
        "/v1/keys/{key_id}",
        "/v1/keys/{key_id}/rotate",
    } == set(paths)

    for path, methods in paths.items():
        for operation in methods.values():
            answers = operation["responses"]
            assert "422" not in answers, path
            assert "ErrorBody" in str(answers["default"])
    chat = paths["/v1/chat/completions"]["post"]
    assert {"application/json", "text/event-stream"} == set(chat["responses"]["200"]["content"])
    assert ["model"] == chat["requestBody"]["content"]["application/json"]["schema"]["required"]


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({}, set()),
        ({"provider_token": "t"}, {"provider"}),
        ({"access": "keys"}, {"client", "provider", "admin"}),
    ],
)
async def test_the_documentation_says_who_has_to_show_a_key(
    settings: dict[str, Any], asked: set[str]
) -> None:
    async with running_gateway(**settings) as gateway:
        document = create_app(gateway.parts).openapi()

    said = {
        (verb, path): {
            name.partition(",")[0] for one in operation.get("security", []) for name in one
        }
        for path, operations in document["paths"].items()
        for verb, operation in operations.items()
    }
    schemes = document.get("components", {}).get("securitySchemes", {})
    places = {name.partition(", in ")[::2] for name in schemes}
    assert places == {(role, name) for role in asked for name in ("", "x-api-key", "api-key")}
    assert set() == said["get", "/v1/health"]
    assert asked & {"client"} == said["post", "/v1/chat/completions"]
    assert asked & {"provider"} == said["post", "/v1/providers"]
    assert asked & {"admin"} == said["post", "/v1/keys"]


async def test_the_manual_lists_every_route(client: httpx.AsyncClient) -> None:
    manual = (Path(__file__).parents[3] / "docs/api.md").read_text()
    named = set(re.findall(r"[ `](/[a-z0-9_/{}-]+)`", manual))

    paths = (await client.get("/openapi.json")).json()["paths"]

    shown = {re.sub(r"{\w+}", "{id}", path) for path in paths}
    assert set() == {path for path in shown if not {path, path.removeprefix("/v1")} & named}


async def test_a_quarantined_provider_is_listed_with_the_reason_and_refused(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await gateway.registry.strike("p1", MODEL, "head", 1)
    await gateway.counted()
    enrolment = {**TOLD, "id": "p1"}

    refused = await client.post("/v1/providers", json=enrolment)
    left = await client.delete("/v1/providers/p1")

    assert (403, "provider_quarantined") == (
        refused.status_code,
        refused.json()["error"]["code"],
    )
    assert 204 == left.status_code
    for path in ("/v1/providers", "/v1/overview"):
        document = (await client.get(path)).json()
        [listed] = document["data"] if path == "/v1/providers" else document["providers"]
        assert (True, False) == (listed["quarantined"], listed["healthy"])
        assert "quarantined for a status, a content type" in listed["reason"]


async def test_a_removed_model_is_unknown_until_a_provider_brings_it(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    asked = {"model": "plain", "prompt": "Hi"}
    await client.post("/v1/providers", json=TOLD)
    await gateway.registry.remove_provider("gpu-1")
    await gateway.registry.remove_model("plain")
    await gateway.counted()

    missed = await client.post("/v1/completions", json=asked)
    await client.post("/v1/providers", json=TOLD)
    again = await client.get("/v1/models/plain")

    assert (404, "model_not_found") == (missed.status_code, missed.json()["error"]["code"])
    assert (200, 1) == (again.status_code, again.json()["providers"])


async def test_a_provider_whose_texts_a_terminal_would_obey_is_refused(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    for change, param in (
        ({"version": "1\x1b[2J"}, "version"),
        ({"reason": "\x9b2J"}, "reason"),
        ({"models": [{"id": "m", "owned_by": "a\rb"}]}, "models.0.owned_by"),
    ):
        refused = await client.post("/v1/providers", json={**TOLD, **change})

        error = refused.json()["error"]
        assert (400, param) == (refused.status_code, error["param"])
        field = param.rpartition(".")[2]
        assert f"`{field}` should have printable characters only." == error["message"]
