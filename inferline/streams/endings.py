"""How an answer ends, because a stream that merely stops looks to most clients like a whole one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from inferline.streams.reported_error import ErrorFormat, error_of, kind_of
from inferline.streams.sse import Event, EventParser, is_done

#: Names of the events after which nothing comes.
_LAST: Final[Mapping[ErrorFormat, frozenset[bytes]]] = {
    "responses": frozenset({b"response.completed", b"response.incomplete", b"response.failed"}),
    "messages": frozenset({b"message_stop"}),
}

#: What every event has that is part of an answer; one without it may be an error.
_PART: Final[Mapping[ErrorFormat, bytes]] = {
    "choices": b'"choices"',
    "responses": b'"type"',
    "messages": b'"type"',
    "other": b"",
}

_FINISH: Final = b'"finish_reason"'
#: What some servers write there in every event, and it is no reason.
_NO_REASON: Final = re.compile(rb'[ \t]*:[ \t]*(?:null\b|"(?:null|none)?")', re.IGNORECASE)
#: Reasons that say that the answer was not brought to its end.
_FAILED: Final = frozenset({"error", "abort", "aborted", "cancelled", "canceled"})


class Ending:
    """
    Watches the events of one answer and says whether it came to its end.

    Cheap for the events in the middle: they are searched for a few words and never parsed. Those
    of a request for several answers are, until each of these has begun.
    """

    __slots__ = (
        *("_begun", "_choices", "_finished", "_is_last", "_kind", "_part", "_reads_all"),
        *("done", "error"),
    )

    #: The backend has said that nothing more comes: stop reading and close the connection.
    done: bool
    #: The `error` of an event that reported one; the answer has failed, whatever follows.
    error: Mapping[str, Any] | None

    def __init__(self, path: str, *, choices: int = 1) -> None:
        """
        Expect the events that the endpoint `path` sends for `choices` answers in one stream; of
        none, nothing is left to come.
        """
        self._kind: ErrorFormat = kind_of(path)
        self._part = _PART[self._kind]
        self._choices = choices
        #: Whether it is not known yet which choices there are.
        self._reads_all = choices > 1
        self._begun: set[str] = set()
        self._finished: set[str] = set()
        self._is_last = False
        self.done = False
        self.error = None

    @property
    def complete(self) -> bool:
        """
        Whether a clean end of the stream after these events means a whole answer.

        A server that does not know `n` sends one choice and says that nothing more comes: then all
        that began have to be finished.
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
    """Return why a choice is at its end; empty while it is not."""
    reason = choice.get("finish_reason")
    told = reason.strip() if isinstance(reason, str) else ""
    return "" if told.lower() in ("null", "none") else told


def said_all(path: str, sent: bytes) -> bool:
    """
    Whether the last event of a stream is in what was ``sent`` last: then the answer is whole,
    whatever became of its task, and some clients would show what came after it.
    """
    ending = Ending(path)
    for event in EventParser().feed(sent):
        ending.see(event)
    return ending.done


def may_finish(data: bytes) -> bool:
    """Say whether some finish reason may be one. It is sought from the end, where it mostly is."""
    at = data.rfind(_FINISH)
    while at >= 0:
        if not _NO_REASON.match(data, at + len(_FINISH)):
            return True
        at = data.rfind(_FINISH, 0, at)
    return False


def document_of(data: bytes) -> dict[str, Any]:
    """Parse the data of an event; what is no JSON object is read as an empty one."""
    document = _parsed(data)
    return document if isinstance(document, dict) else {}


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
