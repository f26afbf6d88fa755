"""
The usage of each tenant: sums over the tasks that have ended, each counted once.

The write that ends a task dates it, and an index finds the tasks of a slice of time. The stored sum
of a slice covers exactly these tasks. A new sum replaces the one before rather than adding to it,
so that counting a slice again, or twice at once, changes nothing. Slices are parts of an hour's
row, and hours are parts of a day's, which is made of the hours' in the same way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any, Final, Literal, NamedTuple, Protocol, Self

from inferline.names import NAME
from inferline.tasks.shard import LINES_MAX, is_shard_id
from inferline.tasks.task import State
from inferline.telemetry import genai

MINUTE_MS: Final = 60_000
SLICE_MS: Final = 5 * MINUTE_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
#: No attempt has a larger number: it has three digits in the key of a chunk.
_ATTEMPTS_MAX: Final = 999
#: The last date that is believed: in the year 2286, when dates in seconds get an eleventh digit.
MS_MAX: Final = 10**13
#: No name is longer; models that the settings declare may have such long ones.
NAME_CHARS_MAX: Final = 256
#: Stands for a name that can't be one. None of ours has a question mark.
UNKNOWN: Final = "?"

#: How a task ended. `answered` and `refused`: by the backend, `refused` with a status from 400 on.
RequestOutcome = Literal["answered", "refused", "failed", "cancelled", "expired"]

_ENDED_BY: Final[Mapping[str, RequestOutcome]] = {
    State.DONE: "answered",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "expired",
}


class UsageKey(NamedTuple):
    """The names by which usage is stored."""

    tenant: str
    #: Empty where no keys are required.
    key_id: str
    model: str
    #: The provider of the last attempt; empty if there was none.
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskUsage:
    """The usage of one task. No number exceeds what a task can use, whoever wrote the row."""

    task_id: str
    usage_key: UsageKey
    #: Milliseconds since 1970.
    ended_ms: int
    outcome: RequestOutcome
    #: How many requests it stands for, by how they ended: itself, or the lines of a batch.
    requests: Mapping[RequestOutcome, int]
    #: HTTP status of the backend's answer; 0 without one.
    status: int
    attempts: int
    #: Until the last attempt began, and from then to the end; a task that nobody took only waited.
    queue_ms: int
    run_ms: int
    input_tokens: int
    output_tokens: int

    @classmethod
    def from_row(cls, task_id: str, row: Mapping[str, Any]) -> Self | None:
        """
        Read the usage from a task's row; None if the task has not ended.

        The row has the readable fields of a `Task`: its provider may have written anything. Names
        that nothing here can have become `UNKNOWN`, numbers are cut to what is possible.
        """
        state = row.get("state")
        outcome = _ENDED_BY.get(state) if isinstance(state, str) else None
        if outcome is None:
            return None
        status, attempts = _whole(row, "status", 999), _whole(row, "attempt", _ATTEMPTS_MAX)
        created, ended = _whole(row, "created_ms", MS_MAX), _whole(row, "ended_ms", MS_MAX)
        outcome = "refused" if outcome == "answered" and status >= 400 else outcome
        taken = min(max(0, ended - created), DAY_MS)
        waited = min(max(0, _whole(row, "claimed_ms", MS_MAX) - created), taken)
        queue = waited if attempts else taken
        tokens = genai.tokens(row.get("usage"))
        names = (_name(row, name) for name in ("tenant", "key_id", "model", "owner"))
        return cls(
            task_id=task_id,
            usage_key=UsageKey(*names),
            ended_ms=ended,
            outcome=outcome,
            requests=_requests(task_id, row.get("usage"), outcome),
            status=status,
            attempts=attempts,
            queue_ms=queue,
            run_ms=taken - queue,
            input_tokens=tokens.get("input", 0),
            output_tokens=tokens.get("output", 0),
        )


def _requests(task_id: str, usage: object, outcome: RequestOutcome) -> Mapping[RequestOutcome, int]:
    """Return how a shard's lines ended; lines without a result ended as their task did."""
    row = usage if isinstance(usage, Mapping) and is_shard_id(task_id) else {}
    lines = _whole(row, "lines", LINES_MAX)
    if not lines:
        return {outcome: 1}
    completed = _whole(row, "lines_completed", lines)
    refused = _whole(row, "lines_failed", lines - completed)
    rest: RequestOutcome = "failed" if outcome in ("answered", "refused") else outcome
    requests: dict[RequestOutcome, int] = {"answered": completed, "refused": refused}
    requests[rest] = lines - completed - refused
    return requests


def _whole(row: Mapping[str, Any], name: str, most: int) -> int:
    value = row.get(name)
    return min(max(0, value), most) if type(value) is int else 0


def _name(row: Mapping[str, Any], name: str) -> str:
    """Return a name of the row; empty only where that is allowed."""
    value = row.get(name, "")
    if value == "" and name in ("key_id", "owner"):
        return ""
    is_name = isinstance(value, str) and 0 < len(value) <= NAME_CHARS_MAX and value.isprintable()
    return value if is_name and (name == "model" or NAME.fullmatch(value)) else UNKNOWN


@dataclass(slots=True)
class Usage:
    """Sums over some tasks. A row has them in this order: new ones are added at the end."""

    requests: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    queue_ms: int = 0
    run_ms: int = 0
    #: The share in the gateways' calls to AWS; see `inferline.usage.aggregation`.
    aws_calls: int = 0

    def note(self, task: TaskUsage) -> None:
        """Add a task."""
        for outcome, count in task.requests.items():
            self.requests += count
            setattr(self, outcome, getattr(self, outcome) + count)
        self.attempts += task.attempts
        self.input_tokens += task.input_tokens
        self.output_tokens += task.output_tokens
        self.queue_ms += task.queue_ms
        self.run_ms += task.run_ms

    def add(self, other: Usage) -> None:
        """Add all of ``other``."""
        for spec in fields(self):
            setattr(self, spec.name, getattr(self, spec.name) + getattr(other, spec.name))

    @property
    def taken_ms(self) -> int:
        """Return the total time that its tasks took."""
        return self.queue_ms + self.run_ms

    def to_row(self) -> list[int]:
        """Return the stored form: the number of requests first."""
        return list(astuple(self))

    @classmethod
    def from_row(cls, row: Collection[int]) -> Self:
        """
        Read a stored row, also a shorter one of an earlier release or a longer one of a later.
        """
        return cls(*list(row)[: len(fields(cls))])


@dataclass(frozen=True, slots=True)
class Resolution:
    """The time that a row covers, and the number of its parts."""

    ms: int
    parts: int

    @property
    def part_ms(self) -> int:
        """Return the time that a part covers."""
        return self.ms // self.parts


HOUR: Final = Resolution(HOUR_MS, HOUR_MS // SLICE_MS)
DAY: Final = Resolution(DAY_MS, DAY_MS // HOUR_MS)

#: How long the row of an hour stays after it, days: by then the day's row is whole.
HOUR_DAYS_KEPT: Final = 4

#: The parts of a row that have something, by their numbers in it.
Parts = Mapping[int, Usage]


class UsageRow(NamedTuple):
    """The stored usage of a usage key in an hour or day, whose number counts from 1970."""

    usage_key: UsageKey
    number: int
    parts: Parts


class Watermarks(NamedTuple):
    """The first slice that is not counted yet, and the first that is not counted finally."""

    first_pass: int = 0
    final_pass: int = 0


class UsageStore(Protocol):
    """
    The store of usage, which also finds the tasks that it is made of.

    Every method raises `Unavailable` when the store does not answer.
    """

    def now_ms(self) -> int:
        """Return milliseconds since 1970 by the clock that dates the ends of tasks."""

    def ended(self, slice_number: int) -> AsyncIterator[TaskUsage]:
        """
        Yield the tasks that ended in a slice, in any order. Eventually consistent, and only as long
        as their rows exist.
        """

    async def parts(
        self, resolution: Resolution, number: int, usage_keys: Collection[UsageKey]
    ) -> dict[UsageKey, Parts]:
        """Return what is stored of these usage keys in one hour or day, strongly consistent."""

    async def put(
        self, resolution: Resolution, number: int, part: int, sums: Mapping[UsageKey, Usage]
    ) -> None:
        """
        Set one part of each usage key's row.

        A stored part of more requests stays: its writer saw more.
        """

    async def watermarks(self) -> Watermarks:
        """Return how far counting has come."""

    async def advance(self, watermarks: Watermarks) -> None:
        """Store how far counting has come. It never goes back."""

    def rows(
        self, tenant: str | None, resolution: Resolution, first: int, end: int
    ) -> AsyncIterator[UsageRow]:
        """
        Yield the rows from ``first`` to before ``end``, of one tenant or of all; in any order.
        """
