"""Tasks that this provider has failed and leaves to others for a while, where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from inferline.clock import Clock
from inferline.queue import Delivery, Message, UnreadableMessage
from inferline.task import TaskRef, slug

#: For how long a task that was failed here is left to others, seconds. They may be busy; but who
#: all have failed a task must not wait for each other for ever.
PASS_SECONDS: Final = 10.0
#: For how long a queue is left alone to which such a task went back: SQS gives it to any of those
#: that wait, and who asks again at once may well be given it again.
ASIDE_SECONDS: Final = 0.25
#: How many are remembered; the oldest are forgotten.
TASKS_MAX: Final = 1000


class Passes:
    """Which tasks to give back rather than to claim."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[TaskRef, float] = {}
        self._peers: dict[str, int] = {}

    def know(self, peers: Mapping[str, int]) -> None:
        """Take note of how many others serve each model."""
        self._peers = {slug(model): count for model, count in peers.items()}

    def peers(self, ref: TaskRef) -> int:
        """Return how many others serve a task's model."""
        return self._peers.get(ref.slug, 0)

    def add(self, ref: TaskRef) -> None:
        """A task was failed here."""
        self._until.pop(ref, None)
        self._until[ref] = self._clock.monotonic() + PASS_SECONDS
        if len(self._until) > TASKS_MAX:
            del self._until[next(iter(self._until))]

    def has(self, delivery: Delivery) -> bool:
        """Say whether another provider should have the task that a message speaks of."""
        if not self._until:
            return False
        try:
            return Message.loads(delivery.text).ref in self
        except UnreadableMessage:
            return False

    def __contains__(self, ref: object) -> bool:
        """Whether another provider should have a task."""
        if not isinstance(ref, TaskRef) or not self.peers(ref):
            return False
        return self._until.get(ref, 0) > self._clock.monotonic()
