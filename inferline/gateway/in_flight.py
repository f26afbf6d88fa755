"""The requests that this process answers: the tasks it waits for, and its name as their reader."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from inferline.tasks.task import Task

#: Returns a task as it was last read.
Latest = Callable[[], Task]


class Waiting:
    """Tasks of requests under way, so that the age of the oldest costs no read of the store."""

    def __init__(self) -> None:
        self._tasks: dict[object, Latest] = {}

    @contextmanager
    def holding(self, latest: Latest) -> Iterator[None]:
        """Count a task until the block ends."""
        key = object()
        self._tasks[key] = latest
        try:
            yield
        finally:
            del self._tasks[key]

    def oldest_ms(self, now_ms: int) -> dict[str, int]:
        """Return, by model, how long the oldest task that no provider holds has waited."""
        oldest: dict[str, int] = {}
        for latest in self._tasks.values():
            task = latest()
            if task.waits(now_ms):
                age_ms = max(0, now_ms - task.created_ms)
                oldest[task.model] = max(age_ms, oldest.get(task.model, 0))
        return oldest


class ReaderIds:
    """The names under which this process reads answers; no other process uses the same."""

    def __init__(self) -> None:
        self._process = secrets.token_hex(4)
        self._numbers = count()

    def new(self) -> str:
        """Return a name that was never used before."""
        return f"{self._process}-{next(self._numbers):x}"

    def reads(self, task: Task) -> bool:
        """Tell if this process is, or was last, the reader of a task."""
        return task.reader.startswith(f"{self._process}-")
