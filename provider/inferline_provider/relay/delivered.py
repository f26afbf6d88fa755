"""What earlier attempts have left of a streamed answer in the store, which its client may have."""

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

#: What one event says of all: the client sees these as its stream began with them.
_ENVELOPE: Final = ("id", "object", "created", "model", "system_fingerprint")
#: What a delta may hold besides null values and still be text alone.
_TEXTUAL: Final = frozenset({"role", "content"})
_INNER_SPACE: Final = re.compile(r"\S \S")
#: Up to the last single space between two words: to tokenizers it belongs to the second.
_WHOLE_WORDS: Final = re.compile(r".*\S(?= \S)", re.DOTALL)


@dataclass(slots=True, kw_only=True)
class Delivered:
    """The text that there is, and what was said around it."""

    #: Of which attempts it is, as `Head.after` has it.
    after: tuple[tuple[int, int], ...]
    content_type: str
    #: Who wrote the last part of it.
    provider: str = ""
    #: What each event with text says: nearly all servers send one for each token.
    texts: list[str] = field(default_factory=list)
    envelope: dict[str, Any] = field(default_factory=dict)
    #: Whether the text has been said to be at its end,
    finished: bool = False
    #: its tokens, where they have been told,
    usage: dict[str, Any] = field(default_factory=dict)
    #: and that nothing more comes.
    done: bool = False

    @property
    def text(self) -> str:
        """The text that there is."""
        return "".join(self.texts)

    @property
    def is_by_token(self) -> bool:
        """
        Whether each event says one token: then a space begins an event, and stands inside none.

        A server that holds some characters back, since a stop string may begin with them, cuts the
        text anywhere.
        """
        begins = any(text.startswith(" ") for text in self.texts[1:])
        return begins and not any(map(_INNER_SPACE.search, self.texts))

    @property
    def whole_words(self) -> str:
        """The text as far as a token surely ends there: before its last word."""
        found = _WHOLE_WORDS.match(self.text)
        return found[0] if found else ""

    def events_within(self, length: int) -> int:
        """How many events the first ``length`` characters of the text came in, at the least."""
        ends = itertools.accumulate(map(len, self.texts))
        return sum(end <= length for end in ends)


async def delivered(store: TaskStore, task: Task) -> Delivered | None:
    """
    What attempts before ``task``'s own have written; None when that is nothing.

    It is decided from the store alone, so that it holds whichever process has died. Raises
    CannotContinue when it is not the text of one answer, and Unavailable.
    """
    newest = await store.last_attempt_with_chunks(task.ref, task.attempt)
    if not newest:
        return None
    chunks = await store.attempt_chunks(task.ref, newest)
    head = chunks[0].head
    if head is None or not head.content_type.startswith("text/event-stream"):
        return None  # Pieces of an answer that is given out whole; nobody has seen them.
    earlier = [await store.attempt_chunks(task.ref, attempt) for attempt, _ in head.after]
    pieces = [
        chunk
        for (_, count), found in zip(head.after, earlier, strict=True)
        for chunk in found[:count]
    ]
    if len(pieces) != sum(count for _, count in head.after):
        raise CannotContinue("A part of the answer is missing in the store.")
    after = (*head.after, (chunks[0].attempt, len(chunks)))
    found = Delivered(after=after, content_type=head.content_type, provider=head.provider)
    data = b"".join(chunk.data for chunk in [*pieces, *chunks])
    if len(data) > PARSED_BYTES_MAX:  # Seconds for a very long one: the others must not wait.
        await asyncio.to_thread(_read, found, task.path, data)
    else:
        _read(found, task.path, data)
    return found


def _read(found: Delivered, path: str, data: bytes) -> None:
    if not path.endswith(COMPLETIONS):
        raise CannotContinue("Streams of this endpoint can't be continued.")
    if not data.endswith(b"\n\n"):
        raise CannotContinue("The answer was cut inside an event.")
    for event in EventParser().feed(data):
        if is_done(event):
            found.done = True
        elif event.event is not None:
            raise CannotContinue(NO_TEXT)
        else:
            found.texts += _take(found, document_of(event.data), chat=path.endswith(CHAT))


def _take(found: Delivered, document: Mapping[str, Any], *, chat: bool) -> list[str]:
    """Take note of an event, and return its text if it has any."""
    choices = document.get("choices")
    if choices is None and document.get("usage"):
        choices = []
    if not isinstance(choices, list) or document.get("error"):
        raise CannotContinue(NO_TEXT)
    if not found.envelope:
        found.envelope = {name: document[name] for name in _ENVELOPE if name in document}
    if isinstance(document.get("usage"), dict):
        found.usage = document["usage"]
    texts = [_text(choice, chat=chat) for choice in choices]
    ends = any(finish_reason(choice) for choice in choices)
    found.finished = found.finished or ends
    return [text for text in texts if text]


def _text(choice: Any, *, chat: bool) -> str:
    """What a choice says. Raises CannotContinue when it says more than text."""
    said = choice if isinstance(choice, dict) else {}
    delta = said.get("delta") if chat else said
    if not isinstance(delta, dict) or said.get("index", 0) != 0 or said.get("logprobs"):
        raise CannotContinue("The answer is more than one text.")
    text = delta.get("content" if chat else "text") or ""
    is_more = chat and any(value and name not in _TEXTUAL for name, value in delta.items())
    if is_more or not isinstance(text, str):
        raise CannotContinue("The answer is more than text.")
    return text
