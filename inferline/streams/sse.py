"""Server-sent events as bytes, because clients must get an answer as its backend wrote it."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from inferline.errors import BackendFailed

#: Longest event that is held in memory. Large because one event may carry a whole answer: the
#: last event of the Responses API repeats all of it.
EVENT_BYTES_MAX: Final = 8 * 1024 * 1024

#: Data of a stream's last event.
DONE: Final = b"[DONE]"

_BOM: Final = b"\xef\xbb\xbf"


class EventTooLarge(BackendFailed):
    """The backend sent one event longer than InferLine holds."""


class Event(NamedTuple):
    """One event that carries data. Immutable; a tuple because millions of them are made."""

    #: Value of the `event:` line; None when there was none.
    event: bytes | None
    #: Values of the `data:` lines, joined by a newline.
    data: bytes
    #: What to forward: the `event:` and `data:` lines as they came, each ended by one newline, and
    #: a blank line.
    raw: bytes


class EventParser:
    """
    Cuts a stream of bytes into events, however the network cut it.

    Lines end at CRLF, LF or CR and nowhere else: U+2028 and its kin are text. Comments, `id:` and
    `retry:` lines are dropped, since several SDKs fail on them, and so is an event whose data is
    missing or empty. The same bytes give the same events for every way of feeding them.

    What LLM servers write beside the rules is read as they mean it: white space around the data, an
    error in a field `error:` (llama.cpp until 2025), and JSON without any field.
    """

    __slots__ = ("_after_cr", "_bytes_max", "_pending", "_scanned", "_started")

    def __init__(self, *, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._bytes_max = event_bytes_max
        self._pending = bytearray()
        self._scanned = 0  # No blank line begins before this offset of _pending.
        self._after_cr = False  # A CR ended the last feed: an LF that comes next belongs to it.
        self._started = False  # The first block is past, and with it the place of a BOM.

    def feed(self, data: bytes) -> list[Event]:
        """
        Return the events that `data` completes.

        Raises EventTooLarge, after which the stream cannot go on; earlier events of the same feed
        are lost with it.
        """
        if self._after_cr or b"\r" in data:
            data = self._with_newlines(data)
        if self._pending:
            self._pending += data
            if self._pending.find(b"\n\n", self._scanned) < 0:
                self._hold_more()
                return []
            data = bytes(self._pending)
            self._pending.clear()
        blocks = data.split(b"\n\n")
        self._hold(blocks.pop())
        return self._events(blocks) if blocks else []

    def close(self) -> list[Event]:
        """
        Return the event that had no blank line after it, if there is one.

        Some servers leave out the last blank line, and a broken connection looks the same: the
        caller must judge whether the event is whole.
        """
        block = bytes(self._pending).rstrip(b"\n")
        self._pending.clear()
        return self._events([block]) if block else []

    def _with_newlines(self, data: bytes) -> bytes:
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _hold(self, rest: bytes) -> None:
        self._scanned = 0
        if rest:
            self._pending += rest
            self._hold_more()

    def _hold_more(self) -> None:
        # One byte more than an event may have: it can be the first half of the blank line.
        if len(self._pending) > self._bytes_max + 1:
            raise EventTooLarge(f"The backend sent an event of over {self._bytes_max} bytes.")
        self._scanned = len(self._pending) - 1

    def _events(self, blocks: list[bytes]) -> list[Event]:
        if not self._started:
            self._started = True
            blocks[0] = blocks[0].removeprefix(_BOM)
        events = []
        for block in blocks:
            if len(block) > self._bytes_max:
                raise EventTooLarge(f"The backend sent an event of over {self._bytes_max} bytes.")
            is_plain = block.startswith(b"data: {") and block.endswith(b"}")
            if is_plain and b"\n" not in block:
                events.append(Event(None, block[6:], block + b"\n\n"))
            else:
                events += _read_block(block)
        return events


def _read_block(block: bytes) -> list[Event]:
    """Return the event of a block; several events if the blank lines between them are missing."""
    if block.startswith(b"{") and not all(map(_is_object, block.split(b"\n"))):
        block = b"data: " + block.replace(b"\n", b" ")  # JSON over several lines.
    events: list[Event | None] = []
    name: bytes | None = None
    values: list[bytes] = []
    lines: list[bytes] = []
    for line in block.split(b"\n"):
        field, value = _field(line)
        if field not in (b"data", b"event"):
            continue
        may_be_next = len(values) == 1 and (field == b"data" or name is not None)
        if may_be_next and _is_object(values[0]):
            events.append(_event(name, values, lines))
            name, values, lines = None, [], []
        if field == b"data":
            values.append(value)
        else:
            name = value
        lines.append(line if line.startswith((b"data", b"event")) else b"data: " + value)
    events.append(_event(name, values, lines))
    return [event for event in events if event is not None]


def _field(line: bytes) -> tuple[bytes, bytes]:
    """Return a line's field and value; an error and bare JSON count as data."""
    if line.startswith(b"{"):
        return b"data", line
    field, _, value = line.partition(b":")
    value = value.removeprefix(b" ")
    return (b"data", _error(value)) if field == b"error" and value.strip() else (field, value)


def _error(value: bytes) -> bytes:
    """Return the value of a field `error:` as the data of an event."""
    try:
        error = json.loads(value)
    except (ValueError, RecursionError):
        error = value.decode(errors="replace").strip()
    is_whole = isinstance(error, dict) and "error" in error
    return json.dumps(error if is_whole else {"error": error}, separators=(",", ":")).encode()


def _is_object(data: bytes) -> bool:
    """Return True if the data is a JSON object by itself."""
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False


def _event(name: bytes | None, values: list[bytes], lines: list[bytes]) -> Event | None:
    data = b"\n".join(values)
    if not data.strip(b" \t\n"):
        return None
    if data.lstrip().startswith(DONE):
        return Event(None, DONE, b"data: " + DONE + b"\n\n")
    return Event(name, data, b"\n".join(lines) + b"\n\n")


class Rest:
    """The stage that drops the first ``count`` events of a stream."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._parser = EventParser() if count else None

    def feed(self, pieces: list[bytes]) -> list[bytes]:
        """Return the bytes of the next ``pieces`` that come after the resume point."""
        if self._parser is None:
            return pieces
        rest = []
        for event in (event for piece in pieces for event in self._parser.feed(piece)):
            if self._left:
                self._left -= 1
            else:
                rest.append(event.raw)
        return rest

    def end(self) -> list[bytes]:
        """Return nothing: an unfinished event is not sent."""
        return []


def comment(text: str) -> bytes:
    """Return a comment, which keeps a connection alive and which clients skip."""
    return b": " + " ".join(text.split()).encode() + b"\n\n"


def data_event(json_bytes: bytes) -> bytes:
    """Return an event without a name around JSON that has no line breaks."""
    return b"data: " + json_bytes + b"\n\n"


def is_done(event: Event) -> bool:
    """Return True for `[DONE]`. Nothing may be sent after it: some clients would show it."""
    return event.data.startswith(DONE)
