"""The pipeline of stages: each is fed the output of the stage before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class StreamStage(Protocol):
    """A step that changes, holds back or drops bytes of a stream. It never blocks."""

    def feed(self, pieces: list[bytes]) -> list[bytes]:
        """Return the bytes for the next stage, now that ``pieces`` have come."""

    def end(self) -> list[bytes]:
        """Return the bytes held back, at the end of the stream."""


class Pipeline:
    """A row of stages: each is fed the output of the stage before."""

    def __init__(self, stages: Sequence[StreamStage]) -> None:
        self._stages = stages

    def feed(self, pieces: list[bytes]) -> list[bytes]:
        """Return the bytes to send, now that ``pieces`` have come."""
        for stage in self._stages:
            pieces = stage.feed(pieces)
        return pieces

    def end(self) -> list[bytes]:
        """Return the bytes that the stages still hold, at the end of the stream."""
        pieces: list[bytes] = []
        for stage in self._stages:
            pieces = [*(stage.feed(pieces) if pieces else []), *stage.end()]
        return pieces
