"""A gateway dies with requests under way, and whoever comes back for an answer gets that answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.asking import AskFor, calls_of
from tests.chaos.client import ComesBack
from tests.chaos.faults import Point, Trap
from tests.chaos.points import AT_GATEWAYS
from tests.chaos.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

GATEWAYS, PROVIDERS = 2, 1
CHANGES = {"reader_seconds": 1.0, "unread_task_seconds": 2.0, "request_seconds_max": 12.0}

POINTS = {point.name: point for point in AT_GATEWAYS}
#: A request with a key is submitted by another call.
KEYED = {"submitted": replace(POINTS["submitted"], site="tasks submit once")}


def point(name: str, comes_back: ComesBack) -> Point:
    return KEYED.get(name, POINTS[name]) if comes_back == "has a key" else POINTS[name]


@pytest.mark.parametrize(
    ("name", "comes_back"),
    [
        ("submitting", "retries"),
        ("submitted", "retries"),
        ("submitted", "has a key"),
        ("sent", "retries"),
        ("sent", "has a key"),
        ("reading", "retries"),
        ("reading", "has a key"),
        ("reading", "resumes"),
    ],
)
async def test_a_client_that_comes_back_gets_the_one_answer(
    world: World, ask: AskFor, name: str, comes_back: ComesBack
) -> None:
    before = await calls_of(world)
    gateway = world.gateways[0]
    assert gateway.proxy is not None
    gateway.proxy.traps.append(Trap(point(name, comes_back), gateway.kill))

    outcome = await ask(tokens=40, interval=0.02, comes_back=comes_back)

    assert ("ok", "", []) == (outcome.end, outcome.code, outcome.wrongs)
    assert not gateway.is_up
    assert before + 1 == await calls_of(world)
    await world.restart(gateway)


async def test_what_nobody_comes_back_for_ends_by_itself(world: World, ask: AskFor) -> None:
    gateway = world.gateways[0]
    assert gateway.proxy is not None
    for name in ("submitted", "sent", "reading"):
        gateway.proxy.traps.append(Trap(POINTS[name], gateway.kill))

        assert "cut" == (await ask(tokens=40, interval=0.05)).end

        await world.restart(gateway)
    assert (await world.emptied(60)).nothing
