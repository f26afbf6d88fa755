"""Runs the contract tests on each implementation of the ports, and on each emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from tests.support.emulators import COMMANDS, running
from tests.support.seams import Seams, on_bench_tables, opened


@pytest.fixture(scope="session")
def emulator() -> Iterator[Callable[[str], str]]:
    """Return the endpoint URL of an emulator by its name, and start it at its first use."""
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(running(name)))


@pytest.fixture(scope="session", params=sorted(COMMANDS))
def aws(request: pytest.FixtureRequest, emulator: Callable[[str], str]) -> str:
    """Return the endpoint URL of each emulator in turn. Tests share it, with own names."""
    return emulator(request.param)


@pytest.fixture(scope="session", params=["memory", "bench", *sorted(COMMANDS)])
def backend(request: pytest.FixtureRequest) -> str:
    """Return the name of each implementation of the ports in turn."""
    name: str = request.param
    return name


@pytest.fixture
async def seams(backend: str, emulator: Callable[[str], str]) -> AsyncIterator[Seams]:
    """Open all ports of one implementation, empty."""
    if backend == "bench":
        yield on_bench_tables()
        return
    async with opened(None if backend == "memory" else emulator(backend)) as ports:
        yield ports
