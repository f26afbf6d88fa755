"""Framing of an answer's body, judged by its bytes: servers label streams in many ways."""

from __future__ import annotations

from typing import Final

from inferline.errors import BackendFailed
from inferline.streams.reported_error import ErrorFormat
from inferline.streams.sse import Event, EventParser, is_done
from inferline.validation.output_rules import is_document, is_media, may_be_media
from inferline_provider.backend.classification import parse
from inferline_provider.faults import BadAnswer

EVENTS: Final = "text/event-stream"
JSON: Final = "application/json"
_PAGE: Final = "text/html"
_TEXT: Final = "text/plain; charset=utf-8"
#: Beginnings of content types of sounds that clients need not know: they get mere bytes.
_SOUNDS: Final = ("audio/", "video/", "application/ogg", "application/x-flac", "binary/")
_BYTES: Final = "application/octet-stream"
#: The content type for clients of events that came under another one.
_RELABELLED: Final = "text/event-stream; charset=utf-8"
#: Lines of JSON, which some servers call a stream.
_LINES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
#: First letters of a line of events: `data`, `event`, `error`, `id`, `retry`, a comment.
_FIELDS: Final = (b"d", b"e", b"i", b"r", b":")
_BOM: Final = b"\xef\xbb\xbf"


class Framing:
    """The parser of a 200's body, if that is made of events."""

    def __init__(self, kind: ErrorFormat, labelled: str, first: bytes) -> None:
        """
        Judge by the content type, and by the `first` bytes where it can only be JSON or events.
        """
        label, is_text = labelled.lower(), kind != "other"
        self._is_lines = is_text and label.startswith(_LINES)
        self._parser = EventParser()
        #: The content type for the client; empty for an answer that is no stream.
        self.content_type = ""
        if label.startswith(EVENTS):
            self.content_type = labelled if is_document(labelled) else EVENTS
        elif self._is_lines or (is_text and _is_field(first)):
            self.content_type = _RELABELLED

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that `data` completes. Raises BadAnswer for one that is too large."""
        try:
            return self._parser.feed(data.replace(b"\n", b"\n\n") if self._is_lines else data)
        except BackendFailed as error:
            raise BadAnswer(str(error)) from error

    def close(self) -> list[Event]:
        """Return the last event, which no blank line follows, unless it was cut in its middle."""
        events = self._parser.close()
        return [event for event in events if is_done(event) or parse(event.data) is not None]


def whole_type(labelled: str, path: str) -> str:
    """Return a content type that the gateway takes; JSON where there is no better one."""
    label = labelled.lower()
    if is_document(labelled) and not label.startswith(EVENTS):
        return labelled
    if may_be_media(path):
        if label.startswith(_PAGE):  # whisper.cpp calls its texts so.
            return _TEXT
        if is_media(labelled):
            return labelled
        if label.startswith(_SOUNDS):
            return _BYTES
    return JSON


def lines(kind: ErrorFormat, body: bytes) -> Framing | None:
    """Return the parser of a whole body with one JSON object a line; None for any other."""
    if kind == "other" or not body.lstrip().startswith(b"{") or parse(body) is not None:
        return None
    rows = [row for row in body.splitlines() if row.strip()]
    is_all = all(isinstance(parse(row), dict) for row in rows)
    return Framing(kind, _LINES[0], b"") if is_all else None


def reported(kind: ErrorFormat, body: bytes) -> bytes:
    """Return the JSON in a body that came as an event, such as an error beside its status."""
    if kind == "other" or not _is_field(body):
        return body
    parser = EventParser()
    events = parser.feed(body) + parser.close()
    return events[0].data if events else body


def _is_field(body: bytes) -> bool:
    return body.removeprefix(_BOM).lstrip().startswith(_FIELDS)
