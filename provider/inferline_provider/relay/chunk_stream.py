"""The answer of one attempt on its way to the store, as chunks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from inferline.errors import InferLineError
from inferline.streams.sse import comment
from inferline.tasks.task import CHUNK_BYTES_MAX, TAIL_BYTES_MAX, AnswerHead, Chunk, Task

#: Bytes of one stream that wait to be written, at the most; then its backend has to wait.
PENDING_BYTES_MAX: Final = 1024 * 1024
#: Rows of one large answer that are written in one go.
ROWS_MAX: Final = 50


class Writer(Protocol):
    """The writer of all streams, as much of it as one of them needs."""

    provider: str

    def schedule(self, stream: ChunkStream, size: int, flushed_at: float, seq: int) -> None:
        """Write the stream when it is due: `size` bytes for its chunk `seq` since `flushed_at`."""

    def forget(self, stream: ChunkStream) -> None:
        """Write nothing more of the stream unless it asks for it."""

    async def write(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks, again if need be. Raises Unavailable when it keeps failing."""


class ChunkStream:
    """The answer of one attempt on its way to the store."""

    def __init__(self, writer: Writer, task: Task) -> None:
        self._writer = writer
        self._task = task
        self._head: AnswerHead | None = None
        self._after: tuple[tuple[int, int], ...] = ()
        self._pieces: list[bytes] = []
        self._size = 0
        self._seq = 0
        self._flushed_at = float("-inf")
        self._failure: InferLineError | None = None
        #: Set while no write of the stream is under way.
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def begun(self) -> bool:
        """Return True if a reader may have seen a part of the answer."""
        return bool(self._seq or self._after)

    def follow(self, after: tuple[tuple[int, int], ...]) -> None:
        """Go on with an answer of which other attempts have written these numbers of chunks."""
        self._after = after

    def head(self, status: int, content_type: str) -> None:
        """Set the head of a streamed answer, which goes with the first chunk."""
        queue_ms = self._task.queue_ms
        self._head = AnswerHead(status, content_type, self._writer.provider, queue_ms, self._after)

    def put(self, event: bytes) -> None:
        """Add an event. Raises the store's Unavailable."""
        if self._failure is not None:
            raise self._failure
        self._pieces.append(event)
        self._size += len(event)
        if self._idle.is_set():
            self._schedule_write()

    async def drained(self) -> None:
        """Wait while the store can't keep up."""
        if self._size > PENDING_BYTES_MAX and not self._idle.is_set():
            await self._idle.wait()

    async def close(self, rest: bytes = b"") -> tuple[int, bytes]:
        """
        Add `rest` and write all but the last piece; return the number of chunks, and that piece.

        The first chunk of a continued answer is written in any case: its head says what it follows.
        Raises Unavailable.
        """
        blobs = await self._take_unwritten(rest)
        if self._after and not self._seq and not blobs:
            blobs = [comment("end")]
        is_alone = len(blobs) == 1 and self._after and not self._seq
        tail = b""
        if blobs and not is_alone and len(blobs[-1]) <= TAIL_BYTES_MAX:
            tail = blobs.pop()
        await self._write(blobs)
        return self._seq, tail

    async def flush(self) -> None:
        """Write everything, so that another attempt can go on behind it. Raises Unavailable."""
        await self._write(await self._take_unwritten())

    async def _take_unwritten(self, rest: bytes = b"") -> list[bytes]:
        """Return what is not written, once no write is under way. Raises Unavailable."""
        while not self._idle.is_set():  # The next write may begin as soon as one has ended.
            await self._idle.wait()
        self._writer.forget(self)
        if self._failure is not None:
            raise self._failure
        blobs = cut([*self._pieces, *([rest] if rest else [])])
        self._pieces, self._size = [], 0
        return blobs

    async def _write(self, blobs: Sequence[bytes]) -> None:
        for start in range(0, len(blobs), ROWS_MAX):
            await self._writer.write(self._rows(blobs[start : start + ROWS_MAX]))

    def hold(self) -> None:
        """Stop writing, but keep what is pending. From then on `begun` does not change."""
        self._writer.forget(self)

    def discard(self) -> None:
        """Stop writing and drop what is pending: the attempt is over."""
        self.hold()
        self._pieces, self._size = [], 0

    def take_pending(self, now: float) -> list[Chunk]:
        """Return what is pending, for the writer."""
        rows = self._rows(cut(self._pieces))
        self._pieces, self._size = [], 0
        self._flushed_at = now
        self._idle.clear()
        return rows

    def write_ended(self, failure: InferLineError | None) -> None:
        """Note that the writer has written what it took, or why not."""
        self._failure = failure
        self._idle.set()
        if self._pieces and failure is None:
            self._schedule_write()

    def _schedule_write(self) -> None:
        self._writer.schedule(self, self._size, self._flushed_at, self._seq)

    def _rows(self, blobs: Iterable[bytes]) -> list[Chunk]:
        rows = []
        for blob in blobs:
            task, head = self._task, self._head if self._seq == 0 else None
            rows.append(Chunk(task.ref, task.attempt, self._seq, blob, task.ttl, head))
            self._seq += 1
        return rows


def cut(pieces: Iterable[bytes], bytes_max: int = CHUNK_BYTES_MAX) -> list[bytes]:
    """Return the pieces joined into as few blobs as possible; only a too large piece is cut."""
    blobs: list[bytes] = []
    joined: list[bytes] = []
    size = 0
    for piece in pieces:
        if joined and size + len(piece) > bytes_max:
            blobs.append(b"".join(joined))
            joined, size = [], 0
        whole = len(piece) // bytes_max * bytes_max
        blobs += [piece[at : at + bytes_max] for at in range(0, whole, bytes_max)]
        if rest := piece[whole:]:
            joined.append(rest)
            size += len(rest)
    if joined:
        blobs.append(b"".join(joined))
    return blobs
