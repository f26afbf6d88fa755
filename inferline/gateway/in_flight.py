"""The tasks that this process waits for, so that the age of the oldest costs no look at a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inferline.tasks.task import Task

#: Tells a task as it was last seen.
Latest = Callable[[], Task]


class Waiting:
    """Tasks of requests under way."""

    def __init__(self) -> None:
        self._tasks: dict[object, Latest] = {}

    @contextmanager
    def holding(self, latest: Latest) -> Iterator[None]:
        """Count a task in until the block ends."""
        key = object()
        self._tasks[key] = latest
        try:
            yield
        finally:
            del self._tasks[key]

    def oldest_ms(self, now_ms: int) -> dict[str, int]:
        """How long the oldest task that no provider holds has waited, by its model."""
        found: dict[str, int] = {}
        for latest in self._tasks.values():
            task = latest()
            if task.waits(now_ms):
                age_ms = max(0, now_ms - task.created_ms)
                found[task.model] = max(age_ms, found.get(task.model, 0))
        return found
