"""Rules that always hold, checked by the writes that were made and by the clients' answers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from inferline.streams.sse import EventParser, is_done
from inferline.tasks.queue import Delivery, Message
from inferline.tasks.store import Wanted
from inferline.tasks.task import Chunk, Task, TaskRef
from tests.protocol.backend import WORDS, Sample
from tests.protocol.worlds import World


class Violation(AssertionError):
    """The protocol has broken its word."""


def hold(claim: bool, what: str) -> None:
    if not claim:
        raise Violation(what)


@dataclass
class Book:
    """Every write as it was made, and every row as it was last seen."""

    world: World
    refs: list[TaskRef] = field(default_factory=list)
    rows: dict[TaskRef, Task] = field(default_factory=dict)
    chunks: dict[tuple[TaskRef, int, int], Chunk] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    #: What was wrong with a write, told at the next look: the writer itself must not hear of it.
    wrong: list[str] = field(default_factory=list)

    async def look(self, *, ended: bool = False) -> None:
        """Compare the live rows with what they were, and those that have ended too, when told."""
        hold(not self.wrong, "; ".join(self.wrong))
        refs = [ref for ref in self.refs if ended or not self._has_ended(ref)]
        for ref, read in zip(refs, await self._read(refs), strict=True):
            if read is not None:
                self._moved(self.rows.get(ref, read), read)
                self.rows[ref] = read

    def _has_ended(self, ref: TaskRef) -> bool:
        return ref in self.rows and self.rows[ref].state.terminal

    async def _read(self, refs: Sequence[TaskRef]) -> list[Task | None]:
        if not refs:
            return []
        return [read.task for read in await self.world.store.read([Wanted(r) for r in refs])]

    def _moved(self, before: Task, now: Task) -> None:
        if before.state.terminal:
            hold(before == now, f"a task that had ended changed: {before} became {now}")
        hold(before.attempt <= now.attempt, "the number of the attempt went back")
        hold(now.attempt <= now.attempt_limit, "there were more attempts than may be")


class Recorder:
    """A store or queue that writes down what is done to it."""

    def __init__(self, inner: Any, book: Book) -> None:
        self._inner = inner
        self._book = book

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        note = getattr(self, f"_note_{name}", None)
        if note is None:
            return method

        async def noted(*given: Any, **named: Any) -> Any:
            await note(*given)
            return await method(*given, **named)

        assert not inspect.iscoroutine(method)
        return noted

    async def _note_submit(self, task: Task) -> None:
        self._book.refs.append(task.ref)

    async def _note_submit_once(self, task: Task, *given: str) -> None:
        self._book.refs.append(task.ref)

    async def _note_send(self, queue: str, message: Message, tenant: str) -> None:
        self._book.messages.append(message)

    async def _note_write_chunks(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            key = chunk.ref, chunk.attempt, chunk.seq
            if self._book.chunks.setdefault(key, chunk).data != chunk.data:
                self._book.wrong.append(f"chunk {key[1:]} was written twice, differently")

    async def _note_delete(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            ref = Message.loads(delivery.text).ref
            (row,) = await self._book._read([ref])
            if row is not None and not row.state.terminal:
                self._book.wrong.append("a message was deleted whose task had not ended")


@dataclass
class Heard:
    """The words in a client's bytes."""

    words: list[str]
    error: bool
    finished: bool
    done: bool

    @classmethod
    def stream(cls, body: bytes) -> Heard:
        """Read a stream as clients do."""
        heard = cls([], False, False, False)
        for event in EventParser().feed(body):
            hold(not heard.done and not heard.error, f"something came after the end: {body!r}")
            if is_done(event):
                heard.done = True
                continue
            document = json.loads(event.data)
            heard.error = "error" in document
            for choice in document.get("choices", []):
                hold(not heard.finished, "something came after the finish")
                heard.words += choice["text"].split()
                heard.finished = choice["finish_reason"] is not None
        return heard

    @classmethod
    def whole(cls, body: bytes) -> Heard:
        """Read a JSON answer."""
        document = json.loads(body)
        if "error" in document:
            return cls([], True, False, False)
        text = document["choices"][0]["text"]
        return cls(text.split(), False, True, True)

    def check(self, samples: Sequence[Sample]) -> None:
        """
        Check the words, else raise Violation: those of one sample from its first, in order.

        Where another goes on, it must have been asked to go on from exactly the words before.
        """
        spoken = [tuple(map(int, word.split("."))) for word in self.words]
        hold([index for _, index in spoken] == list(range(len(spoken))), f"words {self.words}")
        for at, (number, _) in enumerate(spoken):
            if at == 0 or spoken[at - 1][0] != number:
                given = samples[number].given.split()
                hold(given == self.words[:at], f"two answers mixed: {self.words}, given {given}")
        if self.finished or self.done:
            hold(len(spoken) == WORDS, f"a cut answer passes for a whole one: {self.words}")


def rows_say(book: Book, ref: TaskRef, attempt: int, tail: bytes) -> bytes:
    """
    Return the bytes that an attempt's answer has by the chunks that were written, and ``tail``.
    """
    first = book.chunks.get((ref, attempt, 0))
    after = first.head.after if first is not None and first.head is not None else ()
    counts = [*after, (attempt, len([k for k in book.chunks if k[:2] == (ref, attempt)]))]
    pieces = [book.chunks[ref, of, seq].data for of, count in counts for seq in range(count)]
    return b"".join(pieces) + tail
