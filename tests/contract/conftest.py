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
    """The endpoint URL of an emulator by its name, started when first asked for."""
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(running(name)))


@pytest.fixture(scope="session", params=sorted(COMMANDS))
def aws(request: pytest.FixtureRequest, emulator: Callable[[str], str]) -> str:
    """The endpoint URL of each emulator in turn. It is shared: tests use names of their own."""
    return emulator(request.param)


@pytest.fixture(scope="session", params=["memory", "bench", *sorted(COMMANDS)])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each implementation of the ports in turn."""
    name: str = request.param
    return name


@pytest.fixture
async def seams(backend: str, emulator: Callable[[str], str]) -> AsyncIterator[Seams]:
    """All ports of one implementation, empty."""
    if backend == "bench":
        yield on_bench_tables()
        return
    async with opened(None if backend == "memory" else emulator(backend)) as ports:
        yield ports
