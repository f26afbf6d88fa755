"""How a test asks a line for an answer, and what it then looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.chaos.client import Ask, Client
from tests.chaos.oracle import Outcome
from tests.chaos.world import SETTINGS, World

#: Two clients never bear the same name.
_numbers = iter(range(1, 1_000_000))

AskFor = Callable[..., Awaitable[Outcome]]


def asker(world: World) -> AskFor:
    """Asks the first gateway that is there."""
    client = Client(
        world.http,
        lambda: world.urls[world.open_gateways[0].name],
        SETTINGS.request_seconds_max,
    )

    async def ask(**fields: Any) -> Outcome:
        given: dict[str, Any] = {
            "path": "/v1/completions",
            "streamed": True,
            "tokens": 8,
            "interval": 0.005,
        }
        trip = await client.ask(Ask(name=f"r{next(_numbers)}", **(given | fields)))
        return trip.outcome

    return ask


async def calls_of(world: World) -> int:
    """Return how often the backends were asked."""
    states = [await world.get(f"{world.urls[b.name]}/_script/state") for b in world.backends]
    return sum(state["calls"] for state in states if state)


async def done(event: asyncio.Event, seconds: float = 60.0) -> bool:
    """Return whether an event comes in time."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
