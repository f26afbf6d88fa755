"""Suspension: flex tasks make room for better ones, and go on here when a slot is free again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from math import inf
from typing import Final, Protocol

from inferline.clock import Clock
from inferline.tasks.queue import Delivery
from inferline.tasks.task import TIERS, TaskRef, Tier
from inferline_provider.backend.slots import Slots

log = logging.getLogger(__name__)

#: The tier whose tasks give way, and one for which they do.
LOWEST: Final[Tier] = TIERS[-1]
BEST: Final[Tier] = TIERS[0]
#: A task that was suspended is left alone for so long, if there are others, seconds.
AGAIN_SECONDS: Final = 10.0
#: Time for which a slot must have been free before a suspended task may have it, seconds: where one
#: request ends the next is often near. Less than lines of batches wait, which come after it.
QUIET_SECONDS: Final = 0.05


class Suspendable(Protocol):
    """A running attempt, as much of it as its suspension needs."""

    @property
    def ref(self) -> TaskRef:
        """Return the task's reference."""

    @property
    def can_be_suspended(self) -> bool:
        """Return True if the answer could go on later where it is now."""

    @property
    def tokens(self) -> int:
        """Return how many tokens of the answer have come."""

    def suspend(self) -> None:
        """Stop at once, and hand the task back without its message."""


class Suspension:
    """
    The running tasks that give way, and the messages of those that did.

    The message of a suspended task stays invisible for a while. Then it is for any provider, as if
    the task had just come.
    """

    def __init__(self, slots: Slots, clock: Clock, kept_seconds: float) -> None:
        """Keep a message for so long, the time for which it stays invisible."""
        self._slots = slots
        self._clock = clock
        self._kept_seconds = kept_seconds
        self._running: dict[Suspendable, float] = {}
        self._suspended_at: dict[TaskRef, float] = {}
        #: Messages, and until when each is ours; the newest last.
        self._kept: list[tuple[Delivery, float]] = []
        self._free_since = inf
        #: Called with each message that is kept.
        self.on_kept: Callable[[], None] = lambda: None

    def add(self, attempt: Suspendable) -> None:
        """Note a task that gives way to better ones from now on."""
        self._running[attempt] = self._clock.monotonic()

    def remove(self, attempt: Suspendable) -> None:
        """Note that a task runs no more. Repeats do nothing."""
        self._running.pop(attempt, None)

    @property
    def room(self) -> int:
        """Return how many slots better tasks could have, besides the free ones."""
        return len(self._able())

    def make_room(self, count: int) -> int:
        """
        Suspend up to `count` tasks, those that cost least, and return how many.

        Their slots are the caller's at once, while the backend still ends their work.
        """
        chosen = sorted(self._able(), key=self._cost)[: max(0, count)]
        for attempt in chosen:
            log.info("A task makes room for a better one. task=%s", attempt.ref.id)
            self.remove(attempt)
            self._suspended_at[attempt.ref] = self._clock.monotonic()
            attempt.suspend()
        return len(chosen)

    @property
    def kept(self) -> int:
        """Return how many messages of suspended tasks are here."""
        return len(self._kept)

    def keep(self, delivery: Delivery) -> None:
        """Keep the message of a suspended task that was handed back."""
        self._kept.append((delivery, self._clock.monotonic() + self._kept_seconds))
        self.on_kept()

    def look(self) -> None:
        """Note whether a slot is free now. Called with each change."""
        if not self._slots.free:
            self._free_since = inf
        else:
            self._free_since = min(self._free_since, self._clock.monotonic())

    @property
    def wait_seconds(self) -> float:
        """Return the time until a suspended task may go on, if nothing changes; else infinite."""
        if not self._kept:
            return inf
        return max(0.0, self._free_since + QUIET_SECONDS - self._clock.monotonic())

    def next(self) -> Delivery | None:
        """Take a slot for the task that was suspended last, and return its message, if it may."""
        now = self._clock.monotonic()
        self._kept = [kept for kept in self._kept if kept[1] > now]
        if not self._kept or now < self._free_since + QUIET_SECONDS or not self._slots.take(1):
            return None
        return self._kept.pop()[0]

    def release(self) -> Iterable[Delivery]:
        """Return all messages and keep none: others are to have the tasks."""
        kept, self._kept = self._kept, []
        return [delivery for delivery, _ in kept]

    def _able(self) -> list[Suspendable]:
        """Return the tasks that could be suspended now: none again before it has gone on."""
        if not self._running or self._slots.is_paused:
            return []
        since = self._clock.monotonic() - AGAIN_SECONDS
        self._suspended_at = {ref: at for ref, at in self._suspended_at.items() if at > since}
        return [
            attempt
            for attempt in self._running
            if attempt.can_be_suspended
            and (attempt.tokens or attempt.ref not in self._suspended_at)
        ]

    def _cost(self, attempt: Suspendable) -> tuple[bool, int, float]:
        return attempt.ref in self._suspended_at, attempt.tokens, -self._running[attempt]
