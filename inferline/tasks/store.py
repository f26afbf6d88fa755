"""
The port to the task store, the authority on tasks and their answers.

Each method that changes a state is one conditional write; `inferline.tasks.task` lists the moves.
Every method raises `Unavailable` when the store does not answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from inferline.tasks.task import Chunk, State, Task, TaskRef


@dataclass(frozen=True, slots=True)
class Claimed:
    """A successful claim: run the attempt, and renew its lease before that ends."""

    task: Task


@dataclass(frozen=True, slots=True)
class Refused:
    """
    A refused claim.

    ``task`` is the row as the store saw it, None if there is none (a forged or very old message).
    If it is terminal, delete the message; if its lease is live, come back when that ends.
    """

    task: Task | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOutcome:
    """The end of an attempt: with an ``error`` its task is FAILED, without one it is DONE."""

    status: int = 0
    content_type: str = ""
    chunks: int = 0
    tail: bytes = b""
    error: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)
    #: The headers of a failure that say whether and when to retry, as in `Task.headers`.
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for one task's row, and ``count`` chunks of ``attempt`` from ``seq`` on."""

    ref: TaskRef
    attempt: int = 1
    seq: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class TaskRead:
    """
    The result of a read: ``chunks`` are the wanted ones that exist, in order, without the gaps.

    Rows that can't be read are left out. Then ``breach`` names the rule that a provider broke (of
    `inferline.validation.output_rules`), and ``suspect`` the task's owner, if that can be read.
    """

    task: Task | None
    chunks: tuple[Chunk, ...]
    breach: str = ""
    suspect: str = ""


class TaskStatus(NamedTuple):
    """The part of a task's row that its provider polls while it runs the task."""

    state: State
    attempt: int
    #: The end of the reader lease; 0 if nobody has one.
    reader_ms: int


@dataclass(frozen=True, slots=True)
class Binding:
    """The task that an idempotency key is bound to, and a digest of the request sent with it."""

    task_id: str
    request: str


class TaskStore(Protocol):
    """A store of tasks and their answers."""

    def now_ms(self) -> int:
        """Return the store's time, milliseconds since 1970: all dates are compared with it."""

    async def submit(self, task: Task) -> None:
        """
        Write a new task, QUEUED. Made by the gateway, before the message is sent.

        Idempotent: a repeat after a lost response is no error.
        """

    async def submit_all(self, tasks: Sequence[Task]) -> None:
        """
        Write new tasks, QUEUED. Each one that exists is left as it is, in whatever state.

        Idempotent. Not atomic: after `Unavailable` some may exist.
        """

    async def submit_once(
        self, task: Task, key: str, request: str, instead_of: str
    ) -> Binding | None:
        """
        Write a new task and bind ``key`` to it, or return the binding that prevents both.

        A binding to the task ``instead_of`` is replaced, and so is one past its time; it lives as
        long as its task's row. Idempotent, as `submit` is.
        """

    async def binding(self, slug: str, key: str) -> Binding | None:
        """Return what ``key`` is bound to among a model's tasks. Consistent."""

    async def claim(self, ref: TaskRef, owner: str, lease_seconds: float) -> Claimed | Refused:
        """
        Begin an attempt: attempt + 1, owner, lease. Made by a provider that received the message.

        It succeeds on a QUEUED task, or a RUNNING one whose lease has ended, if its deadline is
        ahead and it has attempts left. Of simultaneous claims exactly one
        succeeds. A task whose deadline has passed becomes EXPIRED; one without attempts left
        becomes FAILED; both are Refused.
        """

    async def renew(self, task: Task, lease_seconds: float) -> Task:
        """
        Renew the lease of ``task``'s attempt. Returns the row: its deadline may be a nearer one.

        Raises LeaseLost if the attempt is no longer the newest.
        """

    async def bring_deadline_forward(self, ref: TaskRef, deadline_ms: int) -> bool:
        """
        Have a RUNNING task end by ``deadline_ms``, so that its owner writes first what is done.

        Made by who cancels a batch. False if it does not run, or has to end by then already.
        """

    async def hand_back(
        self, task: Task, *, counts: bool, unfit: frozenset[str] = frozenset()
    ) -> None:
        """
        End the lease now, so that anyone may claim the task. ``counts``: the attempt counts as one.

        ``unfit`` are all providers that can't continue its answer. Raises LeaseLost.
        """

    async def finish(self, task: Task, outcome: AttemptOutcome) -> None:
        """
        End the task: DONE, or FAILED when ``outcome.error`` is set. Made by the attempt's owner.

        Idempotent for the same attempt after a lost response. Raises LeaseLost.
        """

    async def renew_reader_lease(self, task: Task, reader: str, seconds: float) -> bool:
        """
        Take or renew the reader lease of a live task, for ``seconds`` from now.

        It succeeds if the lease is ``reader``'s own, or still as ``task`` has it: of several
        readers that saw it lapsed, one gets it. False if another has it or the task is terminal.
        """

    async def cancel(self, ref: TaskRef, reader: str = "") -> bool:
        """
        Make a live task CANCELLED. Made by the gateway.

        False if it is terminal already, or ``reader`` is given and no longer has the reader lease.
        """

    async def cancel_unread(self, ref: TaskRef, before_ms: int) -> bool:
        """
        Make a live task CANCELLED whose reader lease ended before ``before_ms``. Made by its
        provider. False if it is terminal already, or somebody reads it after all.
        """

    async def expire(self, ref: TaskRef) -> bool:
        """
        Make a live task EXPIRED. Made by the gateway at the deadline, or when nobody serves the
        model.

        False if it is terminal already.
        """

    async def bury(self, ref: TaskRef, error: Mapping[str, Any]) -> bool:
        """
        Make a live task FAILED. Made by the dead-letter function, when its message is dead.

        False if it is terminal already, or a provider has its lease: that one may still finish.
        """

    async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks of any number of tasks. No condition: the keys are the attempt's own."""

    async def last_attempt_with_chunks(self, ref: TaskRef, before: int) -> int:
        """Return the newest attempt before ``before`` with a chunk, 0 for none. Consistent."""

    async def attempt_chunks(self, ref: TaskRef, attempt: int) -> list[Chunk]:
        """
        Return the chunks of an attempt that is over, up to the first gap. Consistent.

        A provider reads them that may continue the answer.
        """

    async def read(self, wanted: Sequence[Wanted], *, consistent: bool = False) -> list[TaskRead]:
        """
        Read rows and chunks of many tasks at once, in the order of ``wanted``.

        Eventually consistent by default: a chunk may be seen before its row, or a row before its
        last chunk. A row past its time counts as gone, deleted or not.
        """

    async def live(self, slug: str, limit: int) -> list[tuple[TaskRef, int]]:
        """
        Return up to ``limit`` live tasks of a model with their deadlines (ms), the earliest first.

        Eventually consistent: a task may appear, or go, a moment late.
        """

    async def live_by_slug(self, limit: int) -> dict[str, list[tuple[TaskRef, int]]] | None:
        """
        Return the live tasks of all models by slug, as `live` returns those of one model.

        None if there are more than ``limit``. The cost grows with the number of live tasks.
        """

    async def statuses(self, refs: Sequence[TaskRef]) -> dict[TaskRef, TaskStatus]:
        """
        Return the status of each task that exists. A task past its time counts as gone.

        A provider polls it to notice a cancelled task, and a reader that has left.
        """
