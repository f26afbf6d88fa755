"""Gateways under fuzz, which nothing may make log an error."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.support.fuzzing import TIMES, log
from tests.support.served import Served, served


@pytest.fixture(scope="session")
def open_gateway() -> Iterator[Served]:
    """Yield a gateway that asks for no keys, and does to answers all that it can be set to do."""
    with served(compression="gzip", response_model="requested") as gateway:
        yield gateway


@pytest.fixture(scope="session")
def locked_gateway() -> Iterator[Served]:
    """Yield a gateway that asks for keys."""
    with served(access="keys") as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """Check that no error comes to the log, not even after its input's answer."""
    yield
    gc.collect()  # What a task that nobody waits for has raised is told as the task goes.
    assert [] == log.taken()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each its time: an answer that hangs fails by itself."""
    for item in items:
        if "tests/fuzz/" in item.nodeid:
            item.add_marker(pytest.mark.timeout(600 * TIMES))
