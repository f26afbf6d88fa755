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

#: How much longer than a backend's answer its client's may be: a model may be renamed in it, and an
#: attempt that goes on with another's may repeat some of it.
ROOM: Final = 1.1
#: How many chunks more than the flushes in an answer's time and size may have made: each attempt's
#: first ones are sooner.
CHUNKS_SPARE: Final = 256
#: How many times as many chunks as those there may be: clocks and loads differ.
CHUNKS_TIMES: Final = 2
#: How late the last chunks of an ended answer may be seen, seconds. DynamoDB is a second behind at
#: the most.
MISSING_SECONDS: Final = 10.0


class Contract:
    """Judges what is read of one task. Its methods raise ProviderFault."""

    def __init__(self, settings: Settings, asked: Task) -> None:
        self._settings = settings
        self._asked = asked
        self._bytes_max = settings.answer_bytes_max * ROOM
        self._flush_bytes = min(settings.flush_bytes, CHUNK_BYTES_MAX)
        self._task: Task | None = None
        self._bytes = 0
        self._chunks = 0
        #: Who has broken it, if one knows.
        self.suspect = asked.owner

    def check(self, found: TaskRead) -> None:
        """Look at the row and the heads that have been read."""
        holder = found.suspect or (found.task.owner if found.task else "")
        if NAME.fullmatch(holder):
            self.suspect = holder
        if found.breach:
            raise ProviderFault(found.breach)
        if found.task is not None and found.task is not self._task:
            check_task(found.task, self._asked)
            self._check_end(found.task)
            self._task = found.task
        for chunk in found.chunks:
            if chunk.head is not None:
                check_head(chunk.head, chunk.attempt)

    def count(self, pieces: Sequence[bytes], now_ms: int) -> None:
        """Count what is given out: no more than the settings allow, in no more pieces."""
        self._bytes += sum(map(len, pieces))
        self._chunks += len(pieces)
        if self._bytes > self._bytes_max:
            raise ProviderFault("size")
        if self._chunks > self._chunks_max(now_ms):
            raise ProviderFault("pieces")

    def check_seen(self, task: Task, waited_seconds: float) -> None:
        """Look whether the rest of an ended answer may still be on its way."""
        if task.state.terminal and waited_seconds > MISSING_SECONDS:
            raise ProviderFault("missing")

    def check_usage(self, task: Task) -> None:
        """Look at the token counts, which hold up no answer."""
        if genai.counts(task.usage) != task.usage:
            raise ProviderFault("usage")

    def _check_end(self, task: Task) -> None:
        """Look at a row whose answer is whole: it tells how that begins, and of how many chunks."""
        if task.state is State.DONE:
            check_head(AnswerHead(task.status, task.content_type, task.owner, task.queue_ms), 0)
            longest = self._bytes_max / self._flush_bytes
            seconds = (task.deadline_ms - task.created_ms) / 1000
            if task.chunks > self._made(seconds) + CHUNKS_TIMES * longest:
                raise ProviderFault("pieces")

    def _chunks_max(self, now_ms: int) -> float:
        seconds = (now_ms - self._asked.created_ms) / 1000
        return self._made(seconds) + CHUNKS_TIMES * self._bytes / self._flush_bytes

    def _made(self, seconds: float) -> float:
        """How many chunks time alone may have made."""
        return CHUNKS_SPARE + CHUNKS_TIMES * seconds / self._settings.flush_seconds
