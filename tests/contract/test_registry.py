"""What every registry and every body store guarantee."""

from __future__ import annotations

import pytest

from inferline.errors import Unavailable
from inferline.registry import Model, Provider, TaskSpeed
from tests.support.seams import Seams

MODEL = Model(
    id="org/m",
    queues={"default": "u1", "flex": "u2", "priority": "u3"},
    created=7,
    context_length=42,
)


def provider(name: str = "p1", **told: object) -> Provider:
    given: dict[str, object] = {
        "id": name,
        "models": ("org/m",),
        "slots": 4,
        "running": 1,
        "healthy": True,
        "version": "1",
        "service_seconds": 1.5,
        "tokens_per_second": 12.345,
        "reason": "",
        "speeds": {"org/m": TaskSpeed(1.234, 56.789), "plain": TaskSpeed(0.5)},
    }
    return Provider(**(given | told))  # type: ignore[arg-type]


async def test_an_empty_registry_knows_nothing(seams: Seams) -> None:
    snapshot = await seams.registry.snapshot()

    assert ({}, {}) == (snapshot.models, snapshot.providers)


async def test_models_and_providers_are_read_as_they_were_told(seams: Seams) -> None:
    bare = Model(id="bare", queues={"default": "u"})
    await seams.registry.put_models([MODEL, bare])
    await seams.registry.put_provider(provider())

    snapshot = await seams.registry.snapshot()

    assert {"org/m": MODEL, "bare": bare} == snapshot.models
    (found,) = snapshot.providers.values()
    assert provider(seen_ms=found.seen_ms) == found
    assert [found] == snapshot.serving("org/m")
    assert [] == snapshot.serving("bare")


async def test_why_a_provider_takes_no_work_is_read_as_it_was_told(seams: Seams) -> None:
    await seams.registry.put_provider(provider(healthy=False, reason="It does not answer."))

    (found,) = (await seams.registry.snapshot()).providers.values()

    assert "It does not answer." == found.reason


async def test_an_unhealthy_provider_serves_nothing(seams: Seams) -> None:
    await seams.registry.put_models([MODEL])
    await seams.registry.put_provider(provider(healthy=False))

    snapshot = await seams.registry.snapshot()

    assert [] == snapshot.serving("org/m")
    assert {"p1"} == set(snapshot.providers)


async def test_a_provider_that_left_is_gone_and_its_models_stay(seams: Seams) -> None:
    await seams.registry.put_models([MODEL])
    await seams.registry.put_provider(provider())

    await seams.registry.remove_provider("p1")
    await seams.registry.remove_provider("p1")

    snapshot = await seams.registry.snapshot()
    assert ({"org/m"}, set()) == (set(snapshot.models), set(snapshot.providers))


async def test_many_providers_are_all_found(seams: Seams) -> None:
    for number in range(30):
        await seams.registry.put_provider(provider(f"p{number}"))

    snapshot = await seams.registry.snapshot()

    assert 30 == len(snapshot.providers)


async def test_a_body_comes_back_to_the_byte(seams: Seams) -> None:
    body = bytes(range(256)) * 5000

    await seams.bodies.put("m-0/task", body)

    assert body == await seams.bodies.get("m-0/task")
    with pytest.raises(Unavailable):
        await seams.bodies.get("m-0/another")
