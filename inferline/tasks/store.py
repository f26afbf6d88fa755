"""
The task store: the authority on what a task is and what its answer is.

Whoever holds a message knows only where to look. Each method that changes a state is one
conditional write; `inferline.task` lists the moves. Every method raises `Unavailable` when the
store does not answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from inferline.tasks.task import Chunk, State, Task, TaskRef


@dataclass(frozen=True, slots=True)
class Claimed:
    """The attempt is ours: run it, and renew before the lease ends."""

    task: Task


@dataclass(frozen=True, slots=True)
class Refused:
    """
    The task may not be claimed.

    ``task`` is its row as the store saw it, None where there is none (a forged or very old
    message).
    A terminal row: delete the message. A live lease: come back when it ends.
    """

    task: Task | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOutcome:
    """How an attempt ended. ``error`` empty means the backend answered (DONE), else FAILED."""

    status: int = 0
    content_type: str = ""
    chunks: int = 0
    tail: bytes = b""
    error: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)
    #: What a failure's client is told of when, and whether, to ask again: see `Task.headers`.
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What a reader asks of one task: its row, and ``count`` chunks of ``attempt`` from ``seq`` on.
    """

    ref: TaskRef
    attempt: int = 1
    seq: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class TaskRead:
    """
    What there was: ``chunks`` are those asked for that exist, in order, gaps left out.

    What a provider wrote that can't be read is left out; then ``breach`` says what (see
    `inferline.validation.output_rules`), and ``suspect`` who holds the task, if that can be read.
    """

    task: Task | None
    chunks: tuple[Chunk, ...]
    breach: str = ""
    suspect: str = ""


class TaskStatus(NamedTuple):
    """What a provider looks at again and again of the tasks that it runs."""

    state: State
    attempt: int
    #: Until when somebody reads the answer; 0 where nobody is known to.
    reader_ms: int


@dataclass(frozen=True, slots=True)
class Bound:
    """The task that an idempotency key stands for, and a digest of what was asked with it."""

    task_id: str
    request: str


class TaskStore(Protocol):
    """Where tasks and their answers are kept."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 by the store's clock: the only one that dates are judged by."""

    async def submit(self, task: Task) -> None:
        """
        Write a new task, QUEUED. Made by the gateway, before the message is sent.

        Idempotent: a repeat after a lost response is no error.
        """

    async def submit_once(
        self, task: Task, key: str, request: str, instead_of: str
    ) -> Bound | None:
        """
        Write a new task and bind ``key`` to it, both or neither; else what the key is bound to.

        A binding to the task ``instead_of`` gives way, and so does one whose time is over; it lives
        as long as its task's row. Idempotent, as `submit` is.
        """

    async def binding(self, slug: str, key: str) -> Bound | None:
        """What ``key`` is bound to among a model's tasks, as of now."""

    async def claim(self, ref: TaskRef, owner: str, lease_seconds: float) -> Claimed | Refused:
        """
        Begin an attempt: attempt + 1, owner, lease. Made by a provider that received the message.

        It succeeds on a QUEUED task, or a RUNNING one whose lease has ended, whose deadline is
        ahead and that has attempts left. Of any number of claims at one moment exactly one
        succeeds. A task whose deadline has passed becomes EXPIRED; one without attempts left
        becomes FAILED; both are Refused.
        """

    async def renew(self, task: Task, lease_seconds: float) -> None:
        """
        Prolong the lease of ``task``'s attempt. Raises LeaseLost when it is no longer the owner's.
        """

    async def hand_back(
        self, task: Task, *, spared: bool, unfit: frozenset[str] = frozenset()
    ) -> None:
        """
        End the lease now, so that anyone may claim. ``spared``: the attempt does not count.

        ``unfit`` are all providers that can't go on with its answer. Raises LeaseLost.
        """

    async def finish(self, task: Task, outcome: AttemptOutcome) -> None:
        """
        End the task: DONE, or FAILED when ``outcome.error`` is set. Made by the attempt's owner.

        Idempotent for the same attempt after a lost response. Raises LeaseLost.
        """

    async def renew_reader_lease(self, task: Task, reader: str, seconds: float) -> bool:
        """
        Take or renew the reader lease of a live task, for ``seconds`` from now.

        It succeeds when the lease is ``reader``'s own, or still as ``task`` has it: of any number
        that saw it lapsed, one gets it. False when it is somebody else's or the task is terminal.
        """

    async def cancel(self, ref: TaskRef, reader: str = "") -> bool:
        """
        Make a live task CANCELLED. Made by the gateway.

        False when it was terminal already, or is no longer read by ``reader``, if one is named.
        """

    async def cancel_unread(self, ref: TaskRef, before_ms: int) -> bool:
        """
        Make a live task CANCELLED whose reader lease ended before ``before_ms``. Made by its
        provider. False when it was terminal already, or somebody reads it after all.
        """

    async def expire(self, ref: TaskRef) -> bool:
        """
        Make a live task EXPIRED. Made by the gateway at the deadline, or when nobody serves the
        model.

        False when it was terminal already.
        """

    async def bury(self, ref: TaskRef, error: Mapping[str, Any]) -> bool:
        """
        Make a live task FAILED. Made by the dead-letter function, when its message is dead.

        False when it was terminal already, and while a provider holds it: that one may yet finish.
        """

    async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks of any number of tasks. No condition: the keys are the attempt's own."""

    async def begun(self, ref: TaskRef, before: int) -> int:
        """The newest attempt before ``before`` that has written a chunk, 0 for none; consistent."""

    async def written(self, ref: TaskRef, attempt: int) -> list[Chunk]:
        """
        The chunks of an attempt that is over, from the first to the last before a gap, consistent.

        What a provider looks at that may have to continue the answer.
        """

    async def read(self, wanted: Sequence[Wanted], *, consistent: bool = False) -> list[TaskRead]:
        """
        Read rows and chunks of many tasks at once, in the order asked.

        Eventually consistent unless told otherwise: a chunk may be seen before its row, or a row
        before its last chunk. What is past its time counts as gone, deleted or not.
        """

    async def live(self, slug: str, limit: int) -> list[tuple[TaskRef, int]]:
        """
        Up to ``limit`` live tasks of a model with their deadlines (ms), the earliest first.

        Eventually consistent: a task may appear, or go, a moment late.
        """

    async def live_by_slug(self, limit: int) -> dict[str, list[tuple[TaskRef, int]]] | None:
        """
        The live tasks of all models by slug, as `live` has those of one; None if more than
        ``limit``.

        It costs as much as the tasks that there are, and next to nothing when there are none.
        """

    async def states(self, refs: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        """
        How each task that exists stands. What a provider looks at to hear of a cancel, and of a
        reader that is gone. One past its time counts as gone, as in `read`.
        """
