"""A line for the tests of a module, whose processes they may break."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from tests.chaos.asking import AskFor, asker
from tests.chaos.world import SETTINGS, World, running_world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """
    Yield as many gateways and providers as the module wants, with its changes of the settings.
    """
    module: Any = request.module
    async with running_world(
        random.Random(1),
        gateways=module.GATEWAYS,
        providers=module.PROVIDERS,
        settings=replace(SETTINGS, **module.CHANGES),
    ) as world:
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ask(world: World) -> AskFor:
    """Ask the line for an answer, and judge it."""
    return asker(world)
