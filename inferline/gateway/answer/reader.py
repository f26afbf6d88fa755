"""Follows one task's answer: what to ask the store for next, and which bytes are the client's."""

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

#: The most chunks asked for at once; with the row they fit one read.
AHEAD_MAX: Final = 16

#: Of why there is no answer, in the provider's words.
MESSAGE_CHARS_MAX: Final = 2000
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

#: Chunks of several attempts that make one answer: attempts, and how many chunks of each, in order.
Segments = tuple[tuple[int, int], ...]


class Reader:
    """
    The bytes of one answer, in order, each once, and how the answer ended.

    A streamed reader gives out bytes as they come. It is then bound to them: of a later attempt it
    gives only what continues exactly those, which that attempt's first chunk tells. One that is
    not streamed gives out nothing before the task is DONE, so that no lost provider can show.
    """

    def __init__(self, ref: TaskRef, *, streamed: bool) -> None:
        self.ref = ref
        self.head: AnswerHead | None = None
        self.task: Task | None = None
        #: Whether every byte has been given out.
        self.ended = False
        #: Whether the last look was answered in full, so that there may be more at once.
        self.behind = False
        self._streamed = streamed
        #: How many chunks of earlier attempts have been given out, as `AnswerHead.after` has it.
        self._given: Segments = ()
        #: What is still to be read before the attempt's own chunks.
        self._before: Segments = ()
        self._attempt = 1
        #: Whether the attempt's first chunk, which tells what it continues, is yet to be seen.
        self._unsure = False
        self._seq = 0
        self._ahead = 1
        self._tailed = False

    @property
    def attempt(self) -> int:
        """The attempt whose bytes are read."""
        return self._attempt

    @property
    def flowing(self) -> bool:
        """Whether bytes have been given out."""
        return bool(self._seq or self._given)

    @property
    def seq(self) -> int:
        """The number of the chunk that was given out last in its attempt; -1 before the first."""
        return self._seq - 1

    def wanted(self) -> Wanted:
        """What to ask the store for."""
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

    def take(self, wanted: Wanted, found: TaskRead) -> list[bytes]:
        """
        The bytes that are new in what was ``found`` for ``wanted``.

        Raises ProviderLost when a newer attempt does not continue what was given out, or the error
        that the task ended with, once all bytes before it are out.
        """
        self.behind = False
        if self.ended:
            return []
        # Reads may be stale: what has ended stays ended.
        if found.task is not None and not (self.task and self.task.state.terminal):
            self.task = found.task
            if found.task.attempt > self._attempt:
                self._follow(found.task.attempt)
                return []
        if self._unsure:
            self._see_first(found)
            return []
        pieces = self._pieces(wanted, found) if self._may_give else []
        if self._before:
            self._step()
        elif self.task is not None and self.task.state.terminal:
            # What was not asked for is there; what was and is not comes late, if it comes.
            self.behind = wanted.seq + wanted.count == self._seq < self.task.chunks
            # Of what may not be given out it does not matter how much was written.
            if self._seq >= self.task.chunks or not self._may_give:
                pieces += self._end(self.task, given=bool(pieces))
        return pieces

    @property
    def _may_give(self) -> bool:
        return self._streamed or (self.task is not None and self.task.state is State.DONE)

    def _follow(self, attempt: int) -> None:
        """Go over to a newer attempt. How its bytes begin, its first chunk will tell."""
        if self._seq:
            of = self._before[0][0] if self._before else self._attempt
            self._given += ((of, self._seq),)
        self._attempt, self._seq, self._before = attempt, 0, ()
        self._unsure = self._streamed
        self.behind = True

    def _see_first(self, found: TaskRead) -> None:
        """Find out what the attempt continues. Raises ProviderLost when that is not ours."""
        task = self.task
        if found.chunks:
            head = found.chunks[0].head
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
        """Go on to the next segment when the present one is read."""
        while self._before and self._seq >= self._before[0][1]:
            self._given += (self._before[0],)
            self._before, self._seq, self.behind = self._before[1:], 0, True

    def _pieces(self, wanted: Wanted, found: TaskRead) -> list[bytes]:
        pieces = []
        for chunk in found.chunks:
            if chunk.seq != self._seq:
                break
            if chunk.head is not None and not self.flowing:
                self.head = chunk.head
            pieces.append(chunk.data)
            self._seq += 1
        full = bool(wanted.count) and len(pieces) == wanted.count
        self._ahead = min(AHEAD_MAX, wanted.count * 2) if full else len(pieces) + 1
        # One chunk of one is what a stream looks like that is kept up with.
        self.behind = full and wanted.count > 1
        return pieces

    def _end(self, task: Task, *, given: bool) -> list[bytes]:
        if task.state is not State.DONE:
            tail = task.tail if self._streamed and not self._tailed else b""
            self._tailed = True
            if given or tail:
                self.behind = True  # the bytes first, the error at the next look
                return [tail] if tail else []
            raise ended_without_answer(task)
        self.ended = True
        if self.head is None:
            self.head = AnswerHead(task.status, task.content_type, task.owner, task.queue_ms)
        return [task.tail] if task.tail else []


def ended_without_answer(task: Task) -> InferLineError:
    """The error that a client gets for a task that is FAILED, CANCELLED or EXPIRED."""
    if task.state is State.CANCELLED:
        return TaskCancelled()
    if task.state is State.EXPIRED:
        return DeadlineExceeded()
    return FailedTask(task)


def backends_headers(task: Task) -> dict[str, str]:
    """What a failure's client is told of when, and whether, to ask again; SDKs wait 1 to 60 s."""
    headers = dict(task.headers)
    if "retry-after" in headers:
        seconds = int(headers["retry-after"])
        headers["retry-after"] = str(max(1, min(RETRY_AFTER_SECONDS_MAX, seconds)))
    return headers


class FailedTask(TaskError):
    """What a provider wrote of why it could not answer."""

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
