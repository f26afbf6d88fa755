"""Runs the contract tests on each implementation of the seams, and on each emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from tests.support.emulators import COMMANDS, running
from tests.support.seams import Seams, opened


@pytest.fixture(scope="session")
def emulator() -> Iterator[Callable[[str], str]]:
    """The endpoint URL of an emulator by its name, started when first asked for."""
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(running(name)))


@pytest.fixture(scope="session", params=sorted(COMMANDS))
def aws(request: pytest.FixtureRequest, emulator: Callable[[str], str]) -> str:
    """The endpoint URL of each emulator in turn. It is shared: tests use names of their own."""
    return emulator(request.param)


@pytest.fixture(scope="session", params=["memory", *sorted(COMMANDS)])
def endpoint(request: pytest.FixtureRequest, emulator: Callable[[str], str]) -> str | None:
    """Where the seams' AWS is; None for those in memory."""
    return None if request.param == "memory" else emulator(request.param)


@pytest.fixture
async def seams(endpoint: str | None) -> AsyncIterator[Seams]:
    """The seams, empty."""
    async with opened(endpoint) as found:
        yield found
