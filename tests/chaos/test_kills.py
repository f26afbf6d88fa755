"""A provider dies, stands still or is asked to end at a named point, and its task goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from tests.chaos.asking import AskFor, calls_of, done
from tests.chaos.faults import InjectingProxy, Trap
from tests.chaos.pieces import Piece
from tests.chaos.points import AT_PROVIDERS, Deed
from tests.chaos.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

GATEWAYS, PROVIDERS = 1, 2
#: Whatever a provider held is another's after two seconds.
CHANGES = {"lease_seconds": 1.0}

POINTS = {point.name: point for point in AT_PROVIDERS}
#: How long a provider stands still: longer than its lease and its message's.
STOP_SECONDS = 3.0


@asynccontextmanager
async def trapped(world: World, name: str, deed: Deed) -> AsyncIterator[list[Piece]]:
    """
    Hit the first provider that comes to the point, once; in the end it is well again.

    It may come there when the client has its answer.
    """
    hit: list[Piece] = []
    struck = asyncio.Event()
    traps: dict[InjectingProxy, Trap] = {}

    def strike(piece: Piece) -> None:
        getattr(piece, deed)()
        hit.append(piece)
        struck.set()
        for proxy, trap in traps.items():
            if trap in proxy.traps:
                proxy.traps.remove(trap)

    for piece in world.providers:
        assert piece.proxy is not None
        traps[piece.proxy] = trap = Trap(POINTS[name], partial(strike, piece))
        piece.proxy.traps.append(trap)
    yield hit
    assert await done(struck), f"nobody came to {name}"
    for piece in hit:
        if deed == "stop":
            piece.go_on()
        elif deed == "term":
            assert 0 == await piece.gone()
        if deed != "stop":
            await world.restart(piece)


@pytest.mark.parametrize(
    ("name", "streamed"),
    [
        ("received", True),
        ("claiming", True),
        ("claimed", False),
        ("chunking:0", True),
        ("finishing", False),
        ("finished", True),
        ("deleted", False),
    ],
)
async def test_a_killed_provider_costs_no_answer(
    world: World, ask: AskFor, name: str, streamed: bool
) -> None:
    async with trapped(world, name, "kill") as hit:
        outcome = await ask(tokens=12, interval=0.02, streamed=streamed)

        assert ("ok", []) == (outcome.end, outcome.wrongs)
    assert 1 == len(hit)


@pytest.mark.parametrize("name", ["chunk:0", "chunk:2", "renewed"])
async def test_a_begun_stream_outlives_its_killed_provider(
    world: World, ask: AskFor, name: str
) -> None:
    async with trapped(world, name, "kill") as hit:
        outcome = await ask(tokens=40, interval=0.02)

        assert ("ok", []) == (outcome.end, outcome.wrongs)
    assert 1 == len(hit)


@pytest.mark.parametrize("name", ["received", "claiming", "claimed", "chunk:2", "finishing"])
async def test_a_provider_that_wakes_too_late_changes_nothing(
    world: World, ask: AskFor, name: str
) -> None:
    """It stands still for longer than its lease; what it had under way comes afterwards."""
    async with trapped(world, name, "stop") as hit:
        outcome = await ask(tokens=20, interval=0.02)

        assert ("ok", []) == (outcome.end, outcome.wrongs)
    assert 1 == len(hit)
    assert (await world.emptied(60)).nothing


@pytest.mark.parametrize("name", ["received", "claimed", "chunk:2", "finishing"])
async def test_a_provider_that_is_asked_to_end_costs_no_answer(
    world: World, ask: AskFor, name: str
) -> None:
    async with trapped(world, name, "term") as hit:
        outcome = await ask(tokens=20, interval=0.02)

        assert ("ok", []) == (outcome.end, outcome.wrongs)
    assert 1 == len(hit)


async def test_a_finished_task_is_not_computed_again_though_its_message_comes_back(
    world: World, ask: AskFor
) -> None:
    before = await calls_of(world)

    async with trapped(world, "finished", "kill"):
        await ask(tokens=5)
    assert (await world.emptied(60)).nothing

    assert before + 1 == await calls_of(world)


async def test_after_all_that_nothing_is_left(world: World) -> None:
    assert (await world.emptied(60)).nothing
