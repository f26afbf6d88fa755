"""Small stand-ins for what a part of the provider works with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from inferline.errors import Unavailable
from inferline.memory.tasks import MemoryStore
from inferline.tasks.task import Chunk


class FakeClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self._sleepers.append((self.now + seconds, event))
        await event.wait()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for until, event in self._sleepers:
            if until <= self.now:
                event.set()


class CountingStore(MemoryStore):
    """A store that notes each write of chunks, takes its time, and fails so many times."""

    def __init__(self, write_seconds: float = 0.0) -> None:
        super().__init__()
        self.writes: list[list[Chunk]] = []
        self.failures = 0
        self.write_seconds = write_seconds

    async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        await asyncio.sleep(self.write_seconds)
        if self.failures:
            self.failures -= 1
            raise Unavailable
        self.writes.append(list(chunks))
        await super().write_chunks(chunks)
