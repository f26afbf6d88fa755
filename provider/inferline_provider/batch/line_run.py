"""A line on its way: waiting, at the backend, suspended, or to be tried again."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

from inferline.tasks.task import Task, TaskRef
from inferline_provider.batch.fold import Folding, is_foldable
from inferline_provider.batch.lines import Line

if TYPE_CHECKING:
    from inferline_provider.batch.work import ShardWork


class LineRun:
    """One line in one attempt at its shard, until it has a result."""

    def __init__(self, line: Line, task: Task, work: ShardWork) -> None:
        self.line = line
        self.task = task
        self.work = work
        #: Stands for the line where tasks are counted that are at the backend.
        self.ref = TaskRef(task.ref.slug, f"{task.ref.id}/{line.number}")
        #: The most tokens that its answer may have; None if it has no bound.
        self.tokens_max: int | None = None
        #: How often the backend failed it, and how often it had no room for it.
        self.failures = 0
        self.refusals = 0
        #: Not to be tried before this moment, seconds of the clock.
        self.due_at = -inf
        self.begun_at = -inf
        self.suspended_at = -inf
        self.job: asyncio.Task[None] | None = None
        #: Its answer so far, if that is asked for as a stream.
        self.folding: Folding | None = None
        #: Whether the backend has never failed to go on with it.
        self.can_resume = True
        #: Whether its request has been read: not before it is at the backend.
        self.is_ready = False

    @property
    def number(self) -> int:
        """Return the line's number in its shard."""
        return self.line.number

    @property
    def tokens(self) -> int:
        """Return how many tokens of its answer are in memory."""
        return 0 if self.folding is None else self.folding.tokens

    @property
    def may_resume(self) -> bool:
        """Return True if it can go on later where it is now; else it is asked anew."""
        return self.can_resume and self.folding is not None and self.folding.may_resume

    def begin_anew(self, *, folds: bool) -> None:
        """Forget what has come; `folds`: ask for the answer as a stream, if that can be folded."""
        path, body = self.task.path, self.line.body
        if not self.is_ready:
            self.is_ready, self.tokens_max = True, self.line.tokens_max
        self.folding = Folding(path, body) if folds and is_foldable(path, body) else None

    @property
    def is_nearly_done(self) -> bool:
        """Return True if less than a tenth of the tokens that it may have is left."""
        return self.tokens_max is not None and 10 * self.tokens > 9 * self.tokens_max
