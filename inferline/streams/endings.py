"""The ends of answers: most clients take a stream that merely stops for a complete answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from inferline.streams.reported_error import ErrorFormat, error_of, kind_of
from inferline.streams.sse import Event, EventParser, is_done

#: Names of the last events of a stream.
_LAST: Final[Mapping[ErrorFormat, frozenset[bytes]]] = {
    "responses": frozenset({b"response.completed", b"response.incomplete", b"response.failed"}),
    "messages": frozenset({b"message_stop"}),
}

#: A text in every event that is part of an answer; an event without it may be an error.
_PART: Final[Mapping[ErrorFormat, bytes]] = {
    "choices": b'"choices"',
    "responses": b'"type"',
    "messages": b'"type"',
    "other": b"",
}

_FINISH: Final = b'"finish_reason"'
#: Values that some servers write there in every event and that are no reason.
_NO_REASON: Final = re.compile(rb'[ \t]*:[ \t]*(?:null\b|"(?:null|none)?")', re.IGNORECASE)
#: Reasons that mean that the answer has failed.
_FAILED: Final = frozenset({"error", "abort", "aborted", "cancelled", "canceled"})


class Ending:
    """
    A check of an answer's events: tells a complete answer from a broken one.

    Cheap for the events in the middle, which are searched for a few words and not parsed. With
    several choices they are parsed until each choice has begun.
    """

    __slots__ = (
        *("_begun", "_choices", "_finished", "_is_last", "_kind", "_part", "_reads_all"),
        *("done", "error"),
    )

    #: True once the backend has sent its last event: stop reading and close the connection.
    done: bool
    #: The `error` of an event that reported one; the answer has failed, whatever follows.
    error: Mapping[str, Any] | None

    def __init__(self, path: str, *, choices: int = 1) -> None:
        """
        Expect the events of the endpoint ``path`` for ``choices`` answers in one stream; 0 choices
        are complete from the start.
        """
        self._kind: ErrorFormat = kind_of(path)
        self._part = _PART[self._kind]
        self._choices = choices
        #: True until every choice has begun.
        self._reads_all = choices > 1
        self._begun: set[str] = set()
        self._finished: set[str] = set()
        self._is_last = False
        self.done = False
        self.error = None

    @property
    def complete(self) -> bool:
        """
        Return True if a clean end of the stream after these events means a complete answer.

        A server that does not know `n` sends a single choice and then its last event: so after a
        last event only the choices that began have to be finished.
        """
        if self.error is not None:
            return False
        if self._kind == "choices":
            is_all = self.done and bool(self._finished) and self._begun <= self._finished
            return is_all or len(self._finished) >= self._choices
        return self._is_last or self._kind == "other"

    def see(self, event: Event) -> None:
        """Take the next event into account."""
        if is_done(event):
            self.done = True
            return
        data = event.data
        if b'"error"' in data or self._part not in data or event.event == b"error":
            self._see_error(event)
        if self._kind == "choices":
            if self._reads_all or may_finish(data):
                self._see_choices(document_of(data).get("choices"))
        elif self._kind != "other":
            self._see_name(event, _LAST[self._kind])

    def _see_error(self, event: Event) -> None:
        error = error_of(_parsed(event.data))
        if error is None and event.event == b"error":
            error = document_of(event.data) or {"message": event.data.decode(errors="replace")}
        self.error = error or self.error

    def _see_choices(self, choices: object) -> None:
        for choice in choices if isinstance(choices, list) else []:
            if not isinstance(choice, dict):
                continue
            index, reason = str(choice.get("index", 0)), finish_reason(choice)
            self._begun.add(index)
            if reason in _FAILED:
                message = f"The LLM server ended its answer with the finish reason `{reason}`."
                self.error = self.error or {"message": message}
            elif reason:
                self._finished.add(index)
        self._reads_all = len(self._begun) < self._choices > 1

    def _see_name(self, event: Event, last: frozenset[bytes]) -> None:
        if event.event is not None:
            self._is_last = self._is_last or event.event in last
        elif any(name in event.data for name in last):
            is_named = str(document_of(event.data).get("type")).encode() in last
            self._is_last = self._is_last or is_named
        self.done = self.done or self._is_last


def finish_reason(choice: Mapping[str, Any]) -> str:
    """Return a choice's finish reason; empty while it has none."""
    reason = choice.get("finish_reason")
    word = reason.strip() if isinstance(reason, str) else ""
    return "" if word.lower() in ("null", "none") else word


def said_all(path: str, sent: bytes) -> bool:
    """
    Return True if the bytes ``sent`` last hold the stream's last event.

    Then the answer is complete, whatever became of its task, and some clients would show anything
    sent after it.
    """
    ending = Ending(path)
    for event in EventParser().feed(sent):
        ending.see(event)
    return ending.done


def may_finish(data: bytes) -> bool:
    """Return True if the data may hold a finish reason, which is usually near the end."""
    at = data.rfind(_FINISH)
    while at >= 0:
        if not _NO_REASON.match(data, at + len(_FINISH)):
            return True
        at = data.rfind(_FINISH, 0, at)
    return False


def document_of(data: bytes) -> dict[str, Any]:
    """Return the JSON object in an event's data; an empty object for any other data."""
    document = _parsed(data)
    return document if isinstance(document, dict) else {}


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
