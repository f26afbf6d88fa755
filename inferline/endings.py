"""How an answer ends, because a stream that merely stops looks to most clients like a whole one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from inferline.sse import Event, EventParser, is_done

Kind = Literal["choices", "responses", "messages", "other"]

#: By the end of the path, so that every prefix an address may have gives the same answer.
_KINDS: Final[Mapping[str, Kind]] = {
    "completions": "choices",
    "responses": "responses",
    "messages": "messages",
}

#: Names of the events after which nothing comes.
_LAST: Final[Mapping[Kind, frozenset[bytes]]] = {
    "responses": frozenset({b"response.completed", b"response.incomplete", b"response.failed"}),
    "messages": frozenset({b"message_stop"}),
}

_FINISH: Final = b'"finish_reason"'


class Ending:
    """
    Watches the events of one answer and says whether it came to its end.

    Cheap for the events in the middle: they are searched for a few words and never parsed.
    """

    __slots__ = ("_choices", "_finished", "_kind", "done", "error")

    #: The backend has said that nothing more comes: stop reading and close the connection.
    done: bool
    #: The `error` of an event that reported one; the answer has failed, whatever follows.
    error: Mapping[str, Any] | None

    def __init__(self, path: str, *, choices: int = 1) -> None:
        """Expect the events that the endpoint `path` sends for `choices` answers in one stream."""
        self._kind: Kind = _KINDS.get(path.rstrip("/").rpartition("/")[2], "other")
        self._choices = choices
        self._finished: set[object] = set()
        self.done = False
        self.error = None

    @property
    def complete(self) -> bool:
        """Whether a clean end of the stream after these events means a whole answer."""
        if self.error is not None:
            return False
        return self.done or self._kind == "other" or len(self._finished) >= self._choices

    def see(self, event: Event) -> None:
        """Take the next event into account."""
        if is_done(event):
            self.done = True
            return
        data = event.data
        if b'"error"' in data or event.event == b"error":
            self._see_error(document_of(data))
        if self._kind == "choices":
            if may_finish(data):
                self._see_choices(document_of(data).get("choices"))
        elif self._kind != "other":
            self._see_name(event, _LAST[self._kind])

    def _see_error(self, document: Mapping[str, Any]) -> None:
        error = document.get("error")
        if not error and document.get("type") == "error":  # The flat form of the Responses API.
            error = {key: value for key, value in document.items() if key != "type"}
        if error:
            self.error = error if isinstance(error, dict) else {"message": str(error)}

    def _see_choices(self, choices: object) -> None:
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, dict) and choice.get("finish_reason") is not None:
                self._finished.add(str(choice.get("index", 0)))

    def _see_name(self, event: Event, last: frozenset[bytes]) -> None:
        if event.event is not None:
            self.done = self.done or event.event in last
        elif any(name in event.data for name in last):
            self.done = self.done or str(document_of(event.data).get("type")).encode() in last


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
    """Say whether some finish reason is not null. It is sought from the end, where it mostly is."""
    at = data.rfind(_FINISH)
    while at >= 0:
        value = at + len(_FINISH)
        if not data[value : value + 7].lstrip(b" :").startswith(b"null"):
            return True
        at = data.rfind(_FINISH, 0, at)
    return False


def document_of(data: bytes) -> dict[str, Any]:
    """Parse the data of an event; what is no JSON object is read as an empty one."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
