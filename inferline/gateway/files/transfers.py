"""The transfers of one gateway: how many files it receives and sends at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from inferline.errors import Unavailable


class Transfers:
    """A count of the files and parts under way; each needs memory for its segments."""

    def __init__(self, transfers_max: int) -> None:
        self._transfers_max = transfers_max
        self._running = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count one more until the block ends. Raises Unavailable if there are too many."""
        if self._running >= self._transfers_max:
            raise Unavailable(
                "This gateway receives and sends as many files as it can at the same time. Try "
                "again in a moment."
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
