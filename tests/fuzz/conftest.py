"""Gateways under fuzz, which nothing may make log an error."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.support.fuzzing import TIMES, log
from tests.support.served import Served, served


@pytest.fixture(scope="session")
def open_gateway() -> Iterator[Served]:
    """A gateway that asks for no keys, and does to answers all that it can be set to do."""
    with served(compression="gzip", answer_model="asked") as found:
        yield found


@pytest.fixture(scope="session")
def locked_gateway() -> Iterator[Served]:
    """A gateway that asks for keys."""
    with served(access="keys") as found:
        yield found


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """No error may come to the log later than its input's answer either."""
    yield
    gc.collect()  # What a task that nobody waits for has raised is told as the task goes.
    assert [] == log.taken()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each its time: an answer that hangs fails by itself."""
    for item in items:
        if "tests/fuzz/" in item.nodeid:
            item.add_marker(pytest.mark.timeout(600 * TIMES))
