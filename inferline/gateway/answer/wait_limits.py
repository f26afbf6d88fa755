"""Limits on the wait for an answer: the deadline, and the time without a provider."""

from __future__ import annotations

from typing import Final

from inferline.errors import DeadlineExceeded, NoProvider
from inferline.gateway.catalogue import Catalogue
from inferline.tasks.store import TaskStore
from inferline.tasks.task import Task

#: How long past its deadline a task may be before the gateway ends it itself, seconds.
DEADLINE_GRACE_SECONDS: Final = 1.0


class WaitLimits:
    """The limits of a wait: the task's deadline, and the time its model may be unserved."""

    def __init__(
        self, store: TaskStore, catalogue: Catalogue, no_provider_seconds: float, now: float
    ) -> None:
        """``now`` is the begin of the wait, by the clock of `check_served`."""
        self._store = store
        self._catalogue = catalogue
        self._no_provider_seconds = no_provider_seconds
        self._served_at = now

    async def check_deadline(self, task: Task) -> None:
        """Expire a task that is past its deadline. Raises DeadlineExceeded."""
        overdue_ms = self._store.now_ms() - task.deadline_ms
        if overdue_ms > DEADLINE_GRACE_SECONDS * 1000:
            await self._store.expire(task.ref)
            raise DeadlineExceeded

    async def check_served(self, now: float, task: Task) -> None:
        """Raise NoProvider if the model is unserved for too long and no provider holds the task."""
        is_held = not task.waits(self._store.now_ms())
        if is_held or (await self._catalogue.model(task.registry_name)).is_served:
            self._served_at = now
        elif now - self._served_at > self._no_provider_seconds:
            if await self._store.expire(task.ref):
                raise NoProvider(
                    f"No provider has served the model {task.model!r} for "
                    f"{self._no_provider_seconds:g} s. Try again later, or start one."
                )
            self._served_at = now
