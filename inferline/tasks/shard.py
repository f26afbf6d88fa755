"""
Shards: a batch's lines, of which one task runs up to a hundred, and what its attempts have done.

A line is no task: that would cost several calls to AWS each. The provider that runs the shard
writes the lines' results in segments to the object store, and commits them by the conditional
write that renews its lease.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

#: The most lines of one shard, and the most bytes of its input.
LINES_MAX: Final = 100
INPUT_BYTES_MAX: Final = 4 * 1024 * 1024

#: Which of the batch's two files a segment belongs to.
SegmentKind = Literal["output", "error"]
_KINDS: Final = ("output", "error")
#: How the id of a batch begins.
_BATCH_ID: Final = "batch_"
_COUNTS: Final = ("number", "lines", "completed", "failed")


@dataclass(frozen=True, slots=True)
class Segment:
    """Results that an attempt wrote as one object: consecutive JSON lines."""

    kind: SegmentKind
    attempt: int
    #: Number of the object among those of its attempt and kind, from 0.
    seq: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """
    Some lines of a batch and their progress, as the task's row has them.

    Sets of lines are bitmaps: bit ``n`` stands for the shard's line ``n``.
    """

    #: The batch's id, and the shard's number in it, from 0.
    batch: str
    number: int
    #: How many lines it has.
    lines: int
    #: The lines whose results are in segments, failed ones included.
    done: int = 0
    #: The lines that were at the backend, and not done, at the last write.
    begun: int = 0
    #: How often a line was begun in an attempt that was lost, by the line's number as text.
    losses: Mapping[str, int] = field(default_factory=dict)
    completed: int = 0
    failed: int = 0
    #: The committed segments, in order.
    segments: tuple[Segment, ...] = ()
    #: Sums of token counts, by the backend's names.
    usage: Mapping[str, int] = field(default_factory=dict)

    @property
    def spent(self) -> dict[str, int]:
        """Return its part of the row's `usage`, from which the usage ledger counts its lines."""
        counts = {f"lines_{name}": getattr(self, name) for name in ("completed", "failed")}
        return {**self.usage, "lines": self.lines, **counts}

    def as_row(self) -> dict[str, Any]:
        """Return the shard as a row's attribute; bitmaps are hex."""
        return {
            **{name: getattr(self, name) for name in ("batch", *_COUNTS)},
            "done": f"{self.done:x}",
            "begun": f"{self.begun:x}",
            "losses": dict(self.losses),
            "segments": [[s.kind, s.attempt, s.seq, s.bytes] for s in self.segments],
            "usage": dict(self.usage),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row's attribute. Raises ValueError, TypeError or LookupError: it is unproven."""
        shard = cls(
            batch=_text(row["batch"]),
            **{name: _count(row[name]) for name in _COUNTS},
            done=int(row["done"], 16),
            begun=int(row["begun"], 16),
            losses={_text(line): _count(times) for line, times in row["losses"].items()},
            segments=tuple(_segment(*each) for each in row["segments"]),
            usage={_text(name): _count(tokens) for name, tokens in row["usage"].items()},
        )
        if not 0 < shard.lines <= LINES_MAX:
            raise ValueError("a number of lines that no shard has")
        everything = (1 << shard.lines) - 1
        if not (0 <= shard.done <= everything and 0 <= shard.begun <= everything):
            raise ValueError("lines that the shard does not have")
        if shard.completed + shard.failed != shard.done.bit_count():
            raise ValueError("counts that do not fit the lines done")
        return shard


def shard_id(batch: str, number: int, model_hash: str) -> str:
    """Return the id of a shard's task: the same whoever submits it, and however often."""
    return f"{batch}-{number}-{model_hash}"


def is_shard_id(task_id: str) -> bool:
    """Return whether a task's id is a shard's. No request has such an id, whoever sends it."""
    return task_id.startswith(_BATCH_ID)


def input_key(slug: str, batch: str, number: int) -> str:
    """Return the object key of a shard's lines. It begins with the model, as rights do."""
    return f"{slug}/{batch}/{number}/lines.jsonl"


def segment_key(slug: str, batch: str, number: int, segment: Segment) -> str:
    """Return the object key of a segment. No two attempts share one."""
    name = f"{segment.attempt}-{segment.seq}.{segment.kind}.jsonl"
    return f"{slug}/{batch}/{number}/{name}"


def _segment(kind: Any, attempt: Any, seq: Any, size: Any) -> Segment:
    if kind not in _KINDS:
        raise ValueError("a kind that no segment has")
    return Segment(kind, _count(attempt), _count(seq), _count(size))


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("not a count")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("not a text")
    return value
