"""One line of real processes for the tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.line import Line, running_line


@pytest.fixture(scope="session")
def line() -> Iterator[Line]:
    """Yield a gateway, a scripted LLM server of four slots, and a provider for it."""
    with running_line("--first-token-seconds", "0.02", "--tokens-per-second", "200") as running:
        yield running
