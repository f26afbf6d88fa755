"""The model's name in an answer: the requested name, whatever the provider wrote."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic_core import from_json

from inferline.streams.sse import Event, EventParser, data_event

#: Where an answer may name its model besides its top level: the first event of the Responses API
#: and of the Messages API wraps the answer.
_WRAPPERS: Final = ("response", "message")


class Naming:
    """
    The stage that writes the requested model's name into each event.

    Parses every event: a few microseconds each. An event with the right name keeps its bytes.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._parser = EventParser()

    def feed(self, pieces: list[bytes]) -> list[bytes]:
        """Return the events that the next ``pieces`` complete, as one piece."""
        events = [event for piece in pieces for event in self._parser.feed(piece)]
        return [b"".join(map(self._event, events))] if events else []

    def end(self) -> list[bytes]:
        """Return the events that the end of the stream completes."""
        return [self._event(event) for event in self._parser.close()]

    def whole(self, body: bytes) -> bytes:
        """Return an answer that is not a stream, with the right name."""
        named = self._named(body)
        return body if named is None else named

    def _event(self, event: Event) -> bytes:
        named = self._named(event.data)
        if named is None:
            return event.raw
        name = b"" if event.event is None else b"event: " + event.event + b"\n"
        return name + data_event(named)

    def _named(self, data: bytes) -> bytes | None:
        """Return the JSON with the right name; None if it needs no change or is not JSON."""
        try:
            document = from_json(data)
        except ValueError:
            return None
        wrong = [
            part for part in _namers(document) if part.get("model", self._model) != self._model
        ]
        for part in wrong:
            part["model"] = self._model
        return json.dumps(document, separators=(",", ":")).encode() if wrong else None


def _namers(document: Any) -> list[dict[str, Any]]:
    """Return the objects of an answer that may hold the model's name."""
    if not isinstance(document, dict):
        return []
    inner = (document.get(name) for name in _WRAPPERS)
    return [document, *(value for value in inner if isinstance(value, dict))]
