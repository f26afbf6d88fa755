"""The lines of a shard: requests as its input has them, results as the batch's files do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from inferline.files.ids import new_id
from inferline.tasks.shard import SegmentKind
from inferline.tasks.task import Task
from inferline_provider.faults import BackendAnswer
from inferline_provider.relay import edits
from inferline_provider.serve.claim import is_intact

#: Fields in which a request bounds the tokens of its answer.
_BOUNDS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens", "n_predict")
_BLANKS: Final = bytes.maketrans(b"\r\n", b"  ")
#: Characters that JSON's strings may have, at which many clients end a line (Python's splitlines).
_ESCAPES: Final = {
    character.encode(): f"\\u{ord(character):04x}".encode() for character in "\x85\u2028\u2029"
}
#: How a line ends: with an answer, with an error of the backend's, or without any of the two.
LineEnding = Literal["answered", "refused", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One request of a batch."""

    #: Its number in the shard, from 0.
    number: int
    custom_id: str
    #: The request's body, byte for byte as its client wrote it.
    body: bytes

    @property
    def tokens_max(self) -> int | None:
        """Return the most tokens that its answer may have; None if it has no bound."""
        document = json.loads(self.body)
        bounds = [document[name] for name in _BOUNDS if type(document.get(name)) is int]
        return min(bounds, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineResult:
    """The result of one line."""

    number: int
    ending: LineEnding
    #: A line of one of the batch's files, with its line end.
    text: bytes
    usage: Mapping[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> SegmentKind:
        """Return which of the files it belongs to."""
        return "output" if self.ending == "answered" else "error"


def lines_of(task: Task, data: bytes) -> list[Line]:
    """Return the lines of a shard's input; none if it is not what was stored."""
    try:
        lines = _read(data) if is_intact(task, data) else []
    except (ValueError, TypeError, LookupError):
        return []
    return lines if task.shard is not None and len(lines) == task.shard.lines else []


def _read(data: bytes) -> list[Line]:
    """Return the lines of an input. Raises ValueError, TypeError or LookupError."""
    lines = data.removesuffix(b"\n").split(b"\n")
    return [_line(number, text) for number, text in enumerate(lines)]


def _line(number: int, text: bytes) -> Line:
    written = edits.fields(text)
    custom_id = json.loads(_value(written["custom_id"]))
    body = _value(written["body"])
    if not isinstance(custom_id, str) or not isinstance(json.loads(body), dict):
        raise TypeError("a line that is no request")
    return Line(number=number, custom_id=custom_id, body=body)


def _value(written: bytes) -> bytes:
    """Return the value of a field as it is written."""
    return written.partition(b":")[2].strip()


class ResultWriter:
    """A writer of results, each with an id of its own."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms

    def answered(
        self, line: Line, answer: BackendAnswer, usage: Mapping[str, int] = {}
    ) -> LineResult:
        """Return the result of a line that the backend has answered, with whatever status."""
        response = b'{"status_code":%d,"request_id":"%s","body":%s}' % (
            answer.status,
            self._id("req_"),
            _on_one_line(answer.body),
        )
        ending: LineEnding = "answered" if answer.status < 400 else "refused"
        return self._result(line, ending, response, b"null", usage)

    def lost(self, line: Line, code: str, message: str) -> LineResult:
        """Return the result of a line that has no answer."""
        error = json.dumps({"code": code, "message": message}).encode()
        return self._result(line, "lost", b"null", error, {})

    def _result(
        self,
        line: Line,
        ending: LineEnding,
        response: bytes,
        error: bytes,
        usage: Mapping[str, int],
    ) -> LineResult:
        text = b'{"id":"%s","custom_id":%s,"response":%s,"error":%s}\n' % (
            self._id("batch_req_"),
            json.dumps(line.custom_id).encode(),
            response,
            error,
        )
        return LineResult(number=line.number, ending=ending, text=text, usage=usage)

    def _id(self, prefix: str) -> bytes:
        return new_id(prefix, self._now_ms()).encode()


def _on_one_line(document: bytes) -> bytes:
    """Return JSON without line ends; only those of `_ESCAPES` can stand within a string."""
    line = document.strip().translate(_BLANKS)
    for character, escape in _ESCAPES.items():
        line = line.replace(character, escape)
    return line
