"""The part of a streamed answer that earlier attempts have written: its client may have it."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from inferline.streams.endings import document_of, finish_reason
from inferline.streams.sse import EventParser, is_done
from inferline.tasks.store import TaskStore
from inferline.tasks.task import Task
from inferline_provider.backend.classification import PARSED_BYTES_MAX
from inferline_provider.faults import CannotContinue

#: The endings of the paths whose streams can be continued.
CHAT: Final = "/chat/completions"
COMPLETIONS: Final = "/completions"

NO_TEXT: Final = "The answer holds an event that is no part of a text."

#: Fields that are the same in each event: the client sees them as its stream began.
_ENVELOPE: Final = ("id", "object", "created", "model", "system_fingerprint")
#: Fields that a delta may have, besides null values, and still be text alone.
_TEXTUAL: Final = frozenset({"role", "content"})
_INNER_SPACE: Final = re.compile(r"\S \S")
#: The text before the last single space between two words: tokenizers put it to the second.
_WHOLE_WORDS: Final = re.compile(r".*\S(?= \S)", re.DOTALL)


@dataclass(slots=True, kw_only=True)
class Delivered:
    """The delivered text, and the fields of the events around it."""

    #: Attempts that wrote it and their numbers of chunks, as `AnswerHead.after` has them.
    after: tuple[tuple[int, int], ...]
    content_type: str
    #: The provider that wrote the last part.
    provider: str = ""
    #: The text of each event that has any: nearly all servers send one for each token.
    texts: list[str] = field(default_factory=list)
    envelope: dict[str, Any] = field(default_factory=dict)
    #: Whether an event said that the text is at its end.
    finished: bool = False
    #: The usage, if an event had it.
    usage: dict[str, Any] = field(default_factory=dict)
    #: Whether `[DONE]` came.
    done: bool = False

    @property
    def text(self) -> str:
        """Return the delivered text."""
        return "".join(self.texts)

    @property
    def is_by_token(self) -> bool:
        """
        Return True if each event has one token: then a space begins an event, and stands inside
        none.

        A server that holds some characters back, since a stop string may begin with them, cuts the
        text anywhere.
        """
        begins = any(text.startswith(" ") for text in self.texts[1:])
        return begins and not any(map(_INNER_SPACE.search, self.texts))

    @property
    def whole_words(self) -> str:
        """Return the text before its last word: a token surely ends there."""
        match = _WHOLE_WORDS.match(self.text)
        return match[0] if match else ""

    def events_within(self, length: int) -> int:
        """Return the least number of events that the first `length` characters came in."""
        ends = itertools.accumulate(map(len, self.texts))
        return sum(end <= length for end in ends)


async def delivered(store: TaskStore, task: Task) -> Delivered | None:
    """
    Return the part of an answer that attempts before `task`'s own have written; None for nothing.

    It is read from the store alone, so that it is right whichever process has died. Raises
    CannotContinue when it is not the text of one answer, and Unavailable.
    """
    newest = await store.last_attempt_with_chunks(task.ref, task.attempt)
    if not newest:
        return None
    chunks = await store.attempt_chunks(task.ref, newest)
    head = chunks[0].head
    if head is None or not head.content_type.startswith("text/event-stream"):
        return None  # Pieces of an answer that clients get whole: nobody has seen them.
    earlier = [await store.attempt_chunks(task.ref, attempt) for attempt, _ in head.after]
    pieces = [
        chunk
        for (_, count), written in zip(head.after, earlier, strict=True)
        for chunk in written[:count]
    ]
    if len(pieces) != sum(count for _, count in head.after):
        raise CannotContinue("A part of the answer is missing in the store.")
    after = (*head.after, (chunks[0].attempt, len(chunks)))
    answer = Delivered(after=after, content_type=head.content_type, provider=head.provider)
    data = b"".join(chunk.data for chunk in [*pieces, *chunks])
    if len(data) > PARSED_BYTES_MAX:  # Seconds for a very long one: the others must not wait.
        await asyncio.to_thread(_read, answer, task.path, data)
    else:
        _read(answer, task.path, data)
    return answer


def _read(answer: Delivered, path: str, data: bytes) -> None:
    if not path.endswith(COMPLETIONS):
        raise CannotContinue("Streams of this endpoint can't be continued.")
    if not data.endswith(b"\n\n"):
        raise CannotContinue("The answer was cut inside an event.")
    for event in EventParser().feed(data):
        if is_done(event):
            answer.done = True
        elif event.event is not None:
            raise CannotContinue(NO_TEXT)
        else:
            answer.texts += take(answer, document_of(event.data), chat=path.endswith(CHAT))


def take(answer: Delivered, document: Mapping[str, Any], *, chat: bool) -> list[str]:
    """Take note of an event, and return its text if it has any."""
    choices = document.get("choices")
    if choices is None and document.get("usage"):
        choices = []
    if not isinstance(choices, list) or document.get("error"):
        raise CannotContinue(NO_TEXT)
    if not answer.envelope:
        answer.envelope = {name: document[name] for name in _ENVELOPE if name in document}
    if isinstance(document.get("usage"), dict):
        answer.usage = document["usage"]
    texts = [_text(choice, chat=chat) for choice in choices]
    ends = any(finish_reason(choice) for choice in choices)
    answer.finished = answer.finished or ends
    return [text for text in texts if text]


def _text(choice: Any, *, chat: bool) -> str:
    """Return the text of a choice. Raises CannotContinue when it has more than text."""
    choice = choice if isinstance(choice, dict) else {}
    delta = choice.get("delta") if chat else choice
    if not isinstance(delta, dict) or choice.get("index", 0) != 0 or choice.get("logprobs"):
        raise CannotContinue("The answer is more than one text.")
    text = delta.get("content" if chat else "text") or ""
    is_more = chat and any(value and name not in _TEXTUAL for name, value in delta.items())
    if is_more or not isinstance(text, str):
        raise CannotContinue("The answer is more than text.")
    return text
