"""Tasks that have failed or were refused here: other providers, if any, should have them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Final

from inferline.clock import Clock
from inferline.expiring import ExpiringMap
from inferline.names import slug
from inferline.tasks.queue import Delivery, Message, UnreadableMessage
from inferline.tasks.task import TaskRef

#: Time for which a task that has failed here is left to others, seconds. They may be busy; but
#: providers that all failed a task must not wait for each other for ever.
AVOID_SECONDS: Final = 10.0
#: The same for an answer that has begun, since its reader sees it stand still, and for a task that
#: was refused for want of room, since there may be room again, seconds.
BRIEF_AVOID_SECONDS: Final = 1.0
#: Time after a provider has left for which it may be the one that was lost with an answer, seconds:
#: that shows only when its lease has lapsed.
LEFT_SECONDS: Final = 60.0
#: Time for which a queue is left alone after such a task went back to it: SQS gives the message to
#: any consumer that waits, and this one would often get it again.
ASIDE_SECONDS: Final = 0.25
#: Tasks that are remembered; the oldest are forgotten.
TASKS_MAX: Final = 1000


class FailedTasks:
    """The tasks to give back rather than to claim."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed = ExpiringMap[TaskRef, bool](TASKS_MAX, clock.monotonic, AVOID_SECONDS)
        #: When the backend first refused each task for want of room.
        self._refused_at = ExpiringMap[TaskRef, float](TASKS_MAX)
        self._peers: dict[str, int] = {}
        #: When the number of other providers of each model last fell.
        self._fell_at: dict[str, float] = {}

    def set_peers(self, peers: Mapping[str, int]) -> None:
        """Set the number of other providers that serve each model."""
        now, before = self._clock.monotonic(), self._peers
        self._peers = {slug(model): count for model, count in peers.items()}
        self._fell_at = {
            name: now if count < before.get(name, 0) else self._fell_at.get(name, float("-inf"))
            for name, count in self._peers.items()
        }

    def peers(self, ref: TaskRef) -> int:
        """Return the number of other providers that serve a task's model."""
        return self._peers.get(ref.slug, 0)

    def others(self, ref: TaskRef, unfit: Set[str], lost: str) -> int:
        """
        Return the number of other providers that can go on with an answer; `unfit` ones can't.

        `lost` is among those if it died with the answer: then it may still be counted as serving.
        """
        others = self.peers(ref) - len(unfit - {lost})
        is_counted = lost in unfit and self._clock.monotonic() > self._left_until(ref)
        return others - is_counted

    def _left_until(self, ref: TaskRef) -> float:
        return self._fell_at.get(ref.slug, float("-inf")) + LEFT_SECONDS

    def add(self, ref: TaskRef, *, briefly: bool = False) -> None:
        """Note that a task has failed here; `briefly`: leave it to others for a short time."""
        self._failed.put(ref, True, BRIEF_AVOID_SECONDS if briefly else AVOID_SECONDS)

    def refuse(self, ref: TaskRef) -> float | None:
        """Note that the backend was busy; return the seconds since the first time, if any."""
        now = self._clock.monotonic()
        if (since := self._refused_at.get(ref)) is not None:
            return now - since
        self._refused_at.put(ref, now)
        return None

    def has(self, delivery: Delivery) -> bool:
        """Say whether another provider should have the task that a message names."""
        if not len(self._failed):
            return False
        try:
            return Message.loads(delivery.text).ref in self
        except UnreadableMessage:
            return False

    def __contains__(self, ref: object) -> bool:
        """Say whether another provider should have a task."""
        if not isinstance(ref, TaskRef) or not self.peers(ref):
            return False
        return self._failed.get(ref) is True
