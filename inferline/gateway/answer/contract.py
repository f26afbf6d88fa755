"""The contract of one task: what its provider may write as the answer, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from inferline.errors import ProviderFault
from inferline.names import NAME
from inferline.settings import Settings
from inferline.tasks.store import TaskRead
from inferline.tasks.task import CHUNK_BYTES_MAX, AnswerHead, State, Task
from inferline.telemetry import genai
from inferline.validation.output_rules import check_head, check_task

#: Factor by which an answer may exceed `answer_bytes_max`: a model may be renamed in it, and an
#: attempt that continues another may repeat some of it.
ROOM: Final = 1.1
#: Chunks allowed beyond what an answer's time and size explain: an attempt's first chunks come
#: sooner.
CHUNKS_SPARE: Final = 256
#: Factor on the number of chunks that time and size explain: clocks and loads differ.
CHUNKS_TIMES: Final = 2
#: How late the last chunks of an ended answer may appear, seconds. DynamoDB's reads are at most a
#: second behind.
MISSING_SECONDS: Final = 10.0


class Contract:
    """Checks on what is read of one task. Its methods raise ProviderFault."""

    def __init__(self, settings: Settings, submitted: Task) -> None:
        self._settings = settings
        self._submitted = submitted
        self._bytes_max = settings.answer_bytes_max * ROOM
        self._flush_bytes = min(settings.flush_bytes, CHUNK_BYTES_MAX)
        self._task: Task | None = None
        self._bytes = 0
        self._chunks = 0
        #: The provider that a breach is counted against; empty if unknown.
        self.suspect = submitted.owner

    def check(self, read: TaskRead) -> None:
        """Check the row and the heads of a read."""
        holder = read.suspect or (read.task.owner if read.task else "")
        if NAME.fullmatch(holder):
            self.suspect = holder
        if read.breach:
            raise ProviderFault(read.breach)
        if read.task is not None and read.task is not self._task:
            check_task(read.task, self._submitted)
            self._check_end(read.task)
            self._task = read.task
        for chunk in read.chunks:
            if chunk.head is not None:
                check_head(chunk.head, chunk.attempt)

    def count(self, pieces: Sequence[bytes], now_ms: int) -> None:
        """Count bytes and chunks sent to the client, and check that they stay within the limits."""
        self._bytes += sum(map(len, pieces))
        self._chunks += len(pieces)
        if self._bytes > self._bytes_max:
            raise ProviderFault("size")
        if self._chunks > self._chunks_max(now_ms):
            raise ProviderFault("pieces")

    def check_seen(self, task: Task, waited_seconds: float) -> None:
        """Check that the rest of an ended answer has not been missing for too long."""
        if task.state.terminal and waited_seconds > MISSING_SECONDS:
            raise ProviderFault("missing")

    def check_usage(self, task: Task) -> None:
        """Check the token counts; the answer is sent even if they are invalid."""
        if genai.counts(task.usage) != task.usage:
            raise ProviderFault("usage")

    def _check_end(self, task: Task) -> None:
        """Check the row of a complete answer: its head and its number of chunks."""
        if task.state is State.DONE:
            check_head(AnswerHead(task.status, task.content_type, task.owner, task.queue_ms), 0)
            flushes = self._bytes_max / self._flush_bytes
            seconds = (task.deadline_ms - task.created_ms) / 1000
            if task.chunks > self._made(seconds) + CHUNKS_TIMES * flushes:
                raise ProviderFault("pieces")

    def _chunks_max(self, now_ms: int) -> float:
        seconds = (now_ms - self._submitted.created_ms) / 1000
        return self._made(seconds) + CHUNKS_TIMES * self._bytes / self._flush_bytes

    def _made(self, seconds: float) -> float:
        """Return the largest number of chunks that ``seconds`` of flushing may have made."""
        return CHUNKS_SPARE + CHUNKS_TIMES * seconds / self._settings.flush_seconds
