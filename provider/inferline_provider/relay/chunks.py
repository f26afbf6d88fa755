"""Writing of chunks: the first bytes at once, then many tasks' bytes in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from inferline.background import Backoff
from inferline.errors import InferLineError, Unavailable
from inferline.streams.pacing import interval
from inferline.tasks.store import TaskStore
from inferline.tasks.task import Chunk, Task
from inferline_provider.relay.chunk_stream import ChunkStream

#: The first pause after a write that failed; it doubles, seconds.
RETRY_SECONDS: Final = 0.1
#: A stream that is due within this time is written as well, seconds: a shared write costs one call.
SLACK_SECONDS: Final = 0.02


class ChunkWriter:
    """
    The writer of the chunks of all attempts of this process.

    One write is under way at a time. What comes meanwhile goes with the next, so a slow store gets
    fewer, larger writes.
    """

    def __init__(
        self,
        store: TaskStore,
        *,
        provider: str,
        flush_seconds: float,
        flush_bytes: int,
        patience_seconds: float,
    ) -> None:
        self._store = store
        self.provider = provider
        self._flush_seconds = flush_seconds
        self._flush_bytes = flush_bytes
        self._patience_seconds = patience_seconds
        #: When each stream with something to write is due, by the loop's clock.
        self._due: dict[ChunkStream, float] = {}
        self._next_at = float("inf")
        self._wake = asyncio.Event()

    def open(self, task: Task) -> ChunkStream:
        """Return a stream for the answer of an attempt."""
        return ChunkStream(self, task)

    async def run(self) -> None:
        """Write the streams that are due, for ever."""
        while True:
            await self._wait()
            await self._flush(self._take_due())

    def schedule(self, stream: ChunkStream, size: int, flushed_at: float, seq: int) -> None:
        """Write the stream when it is due: `size` bytes for its chunk `seq` since `flushed_at`."""
        if size >= self._flush_bytes:
            self._due[stream] = due = 0.0
        elif stream in self._due:
            return
        else:
            self._due[stream] = due = flushed_at + interval(seq - 1, self._flush_seconds)
        if due < self._next_at:
            self._wake.set()

    def forget(self, stream: ChunkStream) -> None:
        """Write nothing more of the stream unless it asks for it."""
        self._due.pop(stream, None)

    async def write(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks, again if need be. Raises Unavailable when it keeps failing."""
        spent, failures = 0.0, 0
        while True:
            try:
                return await self._store.write_chunks(chunks)
            except Unavailable:
                if spent >= self._patience_seconds:
                    raise
            pause = Backoff(RETRY_SECONDS).seconds(failures)
            await asyncio.sleep(pause)
            spent += pause
            failures += 1

    async def _wait(self) -> None:
        """Return when a stream is due."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            self._next_at = min(self._due.values(), default=float("inf"))
            if self._next_at <= now:
                return
            self._wake.clear()
            timer = None
            if self._due:
                timer = loop.call_at(self._next_at, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    def _take_due(self) -> dict[ChunkStream, list[Chunk]]:
        now = asyncio.get_running_loop().time()
        until = now + SLACK_SECONDS
        due = [stream for stream, at in self._due.items() if at <= until]
        for stream in due:
            del self._due[stream]
        self._next_at = float("inf")
        return {stream: stream.take_pending(now) for stream in due}

    async def _flush(self, taken: dict[ChunkStream, list[Chunk]]) -> None:
        failure: InferLineError | None = None
        try:
            await self.write([chunk for chunks in taken.values() for chunk in chunks])
        except InferLineError as error:
            failure = error
        for stream in taken:
            stream.write_ended(failure)
