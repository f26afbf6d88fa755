"""How answers become rows: the first bytes at once, then many tasks' bytes in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from inferline.errors import InferLineError, Unavailable
from inferline.streams.pacing import interval
from inferline.streams.sse import comment
from inferline.tasks.store import TaskStore
from inferline.tasks.task import CHUNK_BYTES_MAX, TAIL_BYTES_MAX, AnswerHead, Chunk, Task

#: What one stream may hold that is not written yet, bytes; then its backend has to wait.
HELD_BYTES_MAX: Final = 1024 * 1024
#: Rows of one large answer that are written in one go.
ROWS_MAX: Final = 50
#: The first pause after a write that failed; it doubles, seconds.
RETRY_SECONDS: Final = 0.1
#: Who is due within so long goes along, seconds: a shared write costs one call.
SLACK_SECONDS: Final = 0.02


class ChunkWriter:
    """
    Writes the chunks of all attempts of this process.

    One write is under way at a time; what comes meanwhile gathers and goes with the next, so the
    busier the store is, the more a write carries.
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
        """Begin the answer of an attempt."""
        return ChunkStream(self, task)

    async def run(self) -> None:
        """Write what is due, for ever."""
        while True:
            await self._wait()
            await self._flush(self._take())

    def want(self, stream: ChunkStream, size: int, flushed_at: float, seq: int) -> None:
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
        """Write nothing more of the stream by itself."""
        self._due.pop(stream, None)

    async def write(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks, again if need be. Raises Unavailable when it keeps failing."""
        pause, spent = RETRY_SECONDS, 0.0
        while True:
            try:
                return await self._store.write_chunks(chunks)
            except Unavailable:
                if spent >= self._patience_seconds:
                    raise
            await asyncio.sleep(pause)
            spent += pause
            pause *= 2

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

    def _take(self) -> dict[ChunkStream, list[Chunk]]:
        now = asyncio.get_running_loop().time()
        until = now + SLACK_SECONDS
        due = [stream for stream, at in self._due.items() if at <= until]
        for stream in due:
            del self._due[stream]
        self._next_at = float("inf")
        return {stream: stream.take(now) for stream in due}

    async def _flush(self, taken: dict[ChunkStream, list[Chunk]]) -> None:
        failure: InferLineError | None = None
        try:
            await self.write([chunk for chunks in taken.values() for chunk in chunks])
        except InferLineError as error:
            failure = error
        for stream in taken:
            stream.landed(failure)


class ChunkStream:
    """The answer of one attempt on its way to the store."""

    def __init__(self, writer: ChunkWriter, task: Task) -> None:
        self._writer = writer
        self._task = task
        self._head: AnswerHead | None = None
        self._after: tuple[tuple[int, int], ...] = ()
        self._pieces: list[bytes] = []
        self._size = 0
        self._seq = 0
        self._flushed_at = float("-inf")
        self._failure: InferLineError | None = None
        self._landed = asyncio.Event()
        self._landed.set()

    @property
    def begun(self) -> bool:
        """Whether a reader may have seen some of the answer."""
        return bool(self._seq or self._after)

    def follow(self, after: tuple[tuple[int, int], ...]) -> None:
        """Go on with an answer of which other attempts have written so many chunks."""
        self._after = after

    def head(self, status: int, content_type: str) -> None:
        """Say how a streamed answer begins; it rides on the first chunk."""
        waited = self._task.queue_ms
        self._head = AnswerHead(status, content_type, self._writer.provider, waited, self._after)

    def put(self, event: bytes) -> None:
        """Add an event. Raises the store's Unavailable."""
        if self._failure is not None:
            raise self._failure
        self._pieces.append(event)
        self._size += len(event)
        if self._landed.is_set():
            self._want()

    async def room(self) -> None:
        """Wait while the store can't keep up."""
        if self._size > HELD_BYTES_MAX and not self._landed.is_set():
            await self._landed.wait()

    async def close(self, rest: bytes = b"") -> tuple[int, bytes]:
        """
        Add `rest`, write all but the last piece; return the number of chunks, and that piece.

        The first of an answer that others began is written in any case: it says what it follows.
        Raises Unavailable.
        """
        blobs = await self._taken(rest)
        if self._after and not self._seq and not blobs:
            blobs = [comment("end")]
        is_alone = len(blobs) == 1 and self._after and not self._seq
        tail = b""
        if blobs and not is_alone and len(blobs[-1]) <= TAIL_BYTES_MAX:
            tail = blobs.pop()
        await self._write(blobs)
        return self._seq, tail

    async def flush(self) -> None:
        """Write all that there is: another attempt is to go on behind it. Raises Unavailable."""
        await self._write(await self._taken())

    async def _taken(self, rest: bytes = b"") -> list[bytes]:
        """What is not written, once nothing is under way. Raises Unavailable."""
        while not self._landed.is_set():  # As it lands, what has gathered may be taken at once.
            await self._landed.wait()
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
        """Write nothing by itself any more; what has gathered stays. Settles `begun`."""
        self._writer.forget(self)

    def discard(self) -> None:
        """Write nothing more: the attempt is over."""
        self.hold()
        self._pieces, self._size = [], 0

    def take(self, now: float) -> list[Chunk]:
        """Give the writer what has gathered."""
        rows = self._rows(cut(self._pieces))
        self._pieces, self._size = [], 0
        self._flushed_at = now
        self._landed.clear()
        return rows

    def landed(self, failure: InferLineError | None) -> None:
        """Hear from the writer that what it took was written, or why not."""
        self._failure = failure
        self._landed.set()
        if self._pieces and failure is None:
            self._want()

    def _want(self) -> None:
        self._writer.want(self, self._size, self._flushed_at, self._seq)

    def _rows(self, blobs: Iterable[bytes]) -> list[Chunk]:
        rows = []
        for blob in blobs:
            task, head = self._task, self._head if self._seq == 0 else None
            rows.append(Chunk(task.ref, task.attempt, self._seq, blob, task.ttl, head))
            self._seq += 1
        return rows


def cut(pieces: Iterable[bytes], bytes_max: int = CHUNK_BYTES_MAX) -> list[bytes]:
    """Return the pieces joined into as few blobs as fit; only a too large piece is cut itself."""
    blobs: list[bytes] = []
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        if gathered and size + len(piece) > bytes_max:
            blobs.append(b"".join(gathered))
            gathered, size = [], 0
        whole = len(piece) // bytes_max * bytes_max
        blobs += [piece[at : at + bytes_max] for at in range(0, whole, bytes_max)]
        if rest := piece[whole:]:
            gathered.append(rest)
            size += len(rest)
    if gathered:
        blobs.append(b"".join(gathered))
    return blobs
