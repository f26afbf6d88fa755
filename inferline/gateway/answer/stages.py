"""The stages that a stream's bytes pass on their way to the sender, in one visible order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Stage(Protocol):
    """A step that changes, holds back or drops bytes of a stream. It never waits."""

    def feed(self, pieces: list[bytes]) -> list[bytes]:
        """Return what goes on to the next stage now that ``pieces`` have come."""

    def end(self) -> list[bytes]:
        """Return what was held back, once nothing more comes."""


class Pipeline:
    """Stages in a row: each is fed what the one before gives out."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages

    def feed(self, pieces: list[bytes]) -> list[bytes]:
        """Return what is to be sent now that ``pieces`` have come."""
        for stage in self._stages:
            pieces = stage.feed(pieces)
        return pieces

    def end(self) -> list[bytes]:
        """Return what the stages still hold, once nothing more comes."""
        pieces: list[bytes] = []
        for stage in self._stages:
            pieces = [*(stage.feed(pieces) if pieces else []), *stage.end()]
        return pieces
