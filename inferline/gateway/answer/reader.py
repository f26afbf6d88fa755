"""Follows one task's answer: what to read from the store next, and which bytes to send."""

from __future__ import annotations

import re
from typing import Final

from inferline.errors import (
    RETRY_AFTER_SECONDS_MAX,
    BackendFailed,
    DeadlineExceeded,
    InferLineError,
    ProviderLost,
    TaskCancelled,
    TaskError,
)
from inferline.tasks.store import TaskRead, Wanted
from inferline.tasks.task import AnswerHead, State, Task, TaskRef

#: Most chunks per read; with the row they fit a single one.
AHEAD_MAX: Final = 16

#: Longest error message that is passed on from a provider.
MESSAGE_CHARS_MAX: Final = 2000
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

#: The chunks that make an answer, in order: pairs of an attempt and its number of chunks.
Segments = tuple[tuple[int, int], ...]


class Reader:
    """
    The bytes of an answer, each once and in order, and its end.

    A streamed reader returns bytes as they come. From then on it accepts a later attempt only if
    the head of its first chunk says that it continues exactly the bytes returned so far. An
    unstreamed reader returns nothing before the task is DONE, so the client sees no lost attempt.
    """

    def __init__(self, ref: TaskRef, *, streamed: bool) -> None:
        self.ref = ref
        self.head: AnswerHead | None = None
        self.task: Task | None = None
        #: True once every byte has been returned.
        self.ended = False
        #: True if the last read was full, so that more may be there already.
        self.behind = False
        self._streamed = streamed
        #: Chunks of earlier attempts that have been returned, in the form of `AnswerHead.after`.
        self._given: Segments = ()
        #: Chunks of earlier attempts still to be read before this attempt's own.
        self._before: Segments = ()
        self._attempt = 1
        #: True until the attempt's first chunk, whose head says what it continues, has been read.
        self._unsure = False
        self._seq = 0
        self._ahead = 1
        self._tailed = False

    @property
    def attempt(self) -> int:
        """Return the number of the attempt being read."""
        return self._attempt

    @property
    def flowing(self) -> bool:
        """Return True once bytes have been returned."""
        return bool(self._seq or self._given)

    @property
    def seq(self) -> int:
        """Return the number of the last chunk in its attempt; -1 before the first."""
        return self._seq - 1

    def wanted(self) -> Wanted:
        """Return what to read next."""
        if self._unsure:
            return Wanted(self.ref, self._attempt, 0, 1)
        if self._before:
            attempt, count = self._before[0]
            return Wanted(self.ref, attempt, self._seq, min(AHEAD_MAX, count - self._seq))
        if self.task is not None and self.task.state.terminal:
            count = min(AHEAD_MAX, self.task.chunks - self._seq)
        else:
            count = self._ahead if self._streamed else 0
        return Wanted(self.ref, self._attempt, self._seq, max(0, count))

    def take(self, wanted: Wanted, read: TaskRead) -> list[bytes]:
        """
        Return the new bytes in a ``read`` of ``wanted``.

        Raises ProviderLost if a newer attempt does not continue the bytes returned so far. Raises
        the task's error once all bytes before it have been returned.
        """
        self.behind = False
        if self.ended:
            return []
        # Reads may be stale: what has ended stays ended.
        if read.task is not None and not (self.task and self.task.state.terminal):
            self.task = read.task
            if read.task.attempt > self._attempt:
                self._follow(read.task.attempt)
                return []
        if self._unsure:
            self._see_first(read)
            return []
        pieces = self._pieces(wanted, read) if self._may_give else []
        if self._before:
            self._step()
        elif self.task is not None and self.task.state.terminal:
            # Chunks not yet requested exist; requested ones that are missing come late, if at all.
            self.behind = wanted.seq + wanted.count == self._seq < self.task.chunks
            # Without a right to the bytes, their number does not matter.
            if self._seq >= self.task.chunks or not self._may_give:
                pieces += self._end(self.task, given=bool(pieces))
        return pieces

    @property
    def _may_give(self) -> bool:
        return self._streamed or (self.task is not None and self.task.state is State.DONE)

    def _follow(self, newer: int) -> None:
        """Switch to a newer attempt; its first chunk will say what it continues."""
        if self._seq:
            attempt = self._before[0][0] if self._before else self._attempt
            self._given += ((attempt, self._seq),)
        self._attempt, self._seq, self._before = newer, 0, ()
        self._unsure = self._streamed
        self.behind = True

    def _see_first(self, read: TaskRead) -> None:
        """Learn what the attempt continues. Raises ProviderLost if not what was returned so far."""
        task = self.task
        if read.chunks:
            head = read.chunks[0].head
            self._continue(head.after if head else ())
        elif task is not None and task.state.terminal and not task.chunks:
            if task.state is not State.DONE:
                raise ended_without_answer(task)
            self._continue(())

    def _continue(self, after: Segments) -> None:
        given, done = self._given, len(self._given)
        if given:
            last = after[done - 1] if done <= len(after) else (0, 0)
            is_same = after[: done - 1] == given[:-1] and last[0] == given[-1][0]
            if not is_same or last[1] < given[-1][1]:
                raise ProviderLost
            self._given, self._seq = given[:-1], given[-1][1]
            after = after[done - 1 :]
        self._before, self._unsure, self.behind = after, False, True
        self._step()

    def _step(self) -> None:
        """Go on to the next segment when the current one has been read."""
        while self._before and self._seq >= self._before[0][1]:
            self._given += (self._before[0],)
            self._before, self._seq, self.behind = self._before[1:], 0, True

    def _pieces(self, wanted: Wanted, read: TaskRead) -> list[bytes]:
        pieces = []
        for chunk in read.chunks:
            if chunk.seq != self._seq:
                break
            if chunk.head is not None and not self.flowing:
                self.head = chunk.head
            pieces.append(chunk.data)
            self._seq += 1
        full = bool(wanted.count) and len(pieces) == wanted.count
        self._ahead = min(AHEAD_MAX, wanted.count * 2) if full else len(pieces) + 1
        # One chunk of one requested is normal for a reader that keeps up.
        self.behind = full and wanted.count > 1
        return pieces

    def _end(self, task: Task, *, given: bool) -> list[bytes]:
        if task.state is not State.DONE:
            tail = task.tail if self._streamed and not self._tailed else b""
            self._tailed = True
            if given or tail:
                self.behind = True  # The bytes first; the error with the next read.
                return [tail] if tail else []
            raise ended_without_answer(task)
        self.ended = True
        if self.head is None:
            self.head = AnswerHead(task.status, task.content_type, task.owner, task.queue_ms)
        return [task.tail] if task.tail else []


def ended_without_answer(task: Task) -> InferLineError:
    """Return the client's error for a task that is FAILED, CANCELLED or EXPIRED."""
    if task.state is State.CANCELLED:
        return TaskCancelled()
    if task.state is State.EXPIRED:
        return DeadlineExceeded()
    return FailedTask(task)


def backends_headers(task: Task) -> dict[str, str]:
    """Return the backend's advice on retries; `retry-after` is limited, as SDKs wait 1 to 60 s."""
    headers = dict(task.headers)
    if "retry-after" in headers:
        seconds = int(headers["retry-after"])
        headers["retry-after"] = str(max(1, min(RETRY_AFTER_SECONDS_MAX, seconds)))
    return headers


class FailedTask(TaskError):
    """The error that a provider wrote into a task."""

    def __init__(self, task: Task) -> None:
        message, code, status = (task.error.get(name) for name in ("message", "code", "status"))
        words = message[:MESSAGE_CHARS_MAX] if isinstance(message, str) else ""
        super().__init__(
            words or str(BackendFailed()),
            code=code if isinstance(code, str) and _CODE.fullmatch(code) else BackendFailed.code,
        )
        if isinstance(status, int) and 400 <= status <= 599:
            self.status = status
        if "x-should-retry" in task.headers:
            self.should_retry = task.headers["x-should-retry"] == "true"
