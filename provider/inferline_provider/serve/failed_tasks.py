"""Tasks that were failed or refused here, and are left to others where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Final

from inferline.clock import Clock
from inferline.names import slug
from inferline.tasks.queue import Delivery, Message, UnreadableMessage
from inferline.tasks.task import TaskRef

#: For how long a task that was failed here is left to others, seconds. They may be busy; but who
#: all have failed a task must not wait for each other for ever.
PASS_SECONDS: Final = 10.0
#: The same for an answer that has begun, whose reader sees it stand still, and for a task for which
#: there may be room again, seconds.
BRIEF_PASS_SECONDS: Final = 1.0
#: For how long after a provider has left it is taken to be one that was lost with an answer,
#: seconds: that is found out only when its lease has lapsed.
LEFT_SECONDS: Final = 60.0
#: For how long a queue is left alone to which such a task went back: SQS gives it to any of those
#: that wait, and who asks again at once may well be given it again.
ASIDE_SECONDS: Final = 0.25
#: How many are remembered; the oldest are forgotten.
TASKS_MAX: Final = 1000


class FailedTasks:
    """Which tasks to give back rather than to claim."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[TaskRef, float] = {}
        #: When the backend first refused a task for want of room.
        self._refused_at: dict[TaskRef, float] = {}
        self._peers: dict[str, int] = {}
        #: When the number of the others that serve a model last fell.
        self._fell_at: dict[str, float] = {}

    def know(self, peers: Mapping[str, int]) -> None:
        """Take note of how many others serve each model."""
        now, before = self._clock.monotonic(), self._peers
        self._peers = {slug(model): count for model, count in peers.items()}
        self._fell_at = {
            name: now if count < before.get(name, 0) else self._fell_at.get(name, float("-inf"))
            for name, count in self._peers.items()
        }

    def peers(self, ref: TaskRef) -> int:
        """Return how many others serve a task's model."""
        return self._peers.get(ref.slug, 0)

    def others(self, ref: TaskRef, unfit: Set[str], lost: str) -> int:
        """
        Return how many others may still go on with an answer that ``unfit`` can't go on with.

        ``lost`` is among these where it died with the answer: it may still be counted as serving.
        """
        others = self.peers(ref) - len(unfit - {lost})
        is_counted = lost in unfit and self._clock.monotonic() > self._left_until(ref)
        return others - is_counted

    def _left_until(self, ref: TaskRef) -> float:
        return self._fell_at.get(ref.slug, float("-inf")) + LEFT_SECONDS

    def add(self, ref: TaskRef, *, briefly: bool = False) -> None:
        """Note that a task was failed here; ``briefly``: it is left to others for a short time."""
        seconds = BRIEF_PASS_SECONDS if briefly else PASS_SECONDS
        self._until.pop(ref, None)
        _remember(self._until, ref, self._clock.monotonic() + seconds)

    def refuse(self, ref: TaskRef) -> float | None:
        """Note that a task was refused here; return for how many seconds, None the first time."""
        now = self._clock.monotonic()
        if (since := self._refused_at.get(ref)) is not None:
            return now - since
        _remember(self._refused_at, ref, now)
        return None

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


def _remember(times: dict[TaskRef, float], ref: TaskRef, time: float) -> None:
    times[ref] = time
    if len(times) > TASKS_MAX:
        del times[next(iter(times))]
