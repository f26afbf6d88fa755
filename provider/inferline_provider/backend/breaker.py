"""Circuit breakers: a model rests when tasks fail in a row, unless it answers others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from inferline.background import Backoff
from inferline.clock import Clock
from inferline.names import base_name
from inferline.tasks.task import TaskRef
from inferline_provider.backend.slots import Slots

#: Number of different tasks of a model that must fail in a row to open its breaker: with a smaller
#: one, a few clients whose requests always fail would stop all others.
STRIKES_MAX: Final = 3
#: The first and the longest rest of a model, seconds. It doubles each time that no answer came in
#: between. Both are short, since the next task may well be answered.
REST_SECONDS: Final = (0.5, 2.0)
#: Time after an answer for which failures are taken to be the tasks' own fault, seconds.
ALIVE_SECONDS: Final = 1.0
#: The same while tasks run that began before the failures: answers take longer than failures.
VOUCH_SECONDS: Final = 10.0
#: The same for slow models, in multiples of the time that an answer took.
VOUCH_TIMES: Final = 3.0
#: Time for which it is remembered beside how many others a task was accepted, seconds.
ACCEPTED_SECONDS: Final = 10.0
#: Stands for no limit.
UNLIMITED: Final = 1_000_000


class Breaker:
    """
    The breaker of one model.

    It opens after some different tasks have failed in a row, unless the model answers others. Then
    no task begins for a while. After that one task may try, another each time that the longest rest
    has passed. The first sign of life, such as the first event of a long stream, closes it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: When each task that is at the server began.
        self.running: dict[TaskRef, float] = {}
        #: The tasks that have failed since the last sign of life, and when the first did.
        self._strikes: set[TaskRef] = set()
        self._struck_at = 0.0
        self._rests = 0
        self._open_until = float("-inf")
        #: When it last showed a sign of life.
        self.alive_at = float("-inf")
        self._vouch_seconds = VOUCH_SECONDS

    @property
    def room(self) -> int:
        """
        Return the number of tasks that may begin: none while it is open, then one, then any number.
        """
        if not self._rests:
            return UNLIMITED
        now = self._clock.monotonic()
        if now < self._open_until:
            return 0
        since = max(self._open_until, now - REST_SECONDS[1])
        return 0 if any(begun_at >= since for begun_at in self.running.values()) else 1

    def alive(self, ref: TaskRef) -> bool:
        """Note that a task is answered; True when that closes the breaker."""
        now = self._clock.monotonic()
        took = now - self.running.get(ref, now)
        self._vouch_seconds = max(VOUCH_SECONDS, VOUCH_TIMES * took)
        self.alive_at = now
        self._strikes.clear()
        was_open, self._rests = bool(self._rests), 0
        return was_open

    def strike(self, ref: TaskRef) -> bool:
        """Note that a task has failed; True when that opens the breaker."""
        now = self._clock.monotonic()
        if now < self._open_until:
            return False
        if not self._strikes:
            self._struck_at = now
        self._strikes.add(ref)
        if not self._rests and (len(self._strikes) < STRIKES_MAX or self._is_vouched_for(now)):
            return False
        self._open_until = now + Backoff(*REST_SECONDS).seconds(self._rests)
        self._rests += 1
        self._strikes.clear()
        return True

    def _is_vouched_for(self, now: float) -> bool:
        """Say whether others are answered: they just were, or ran before the failures began."""
        if now - self.alive_at < ALIVE_SECONDS:
            return True
        if now - self.alive_at >= self._vouch_seconds:
            return False
        return any(begun_at < self._struck_at for begun_at in self.running.values())


class Breakers:
    """
    The breakers of all models of one server, which also judge its refusals for want of room.

    A refusal counts unless another task was accepted beside as many: then the reason is the
    request, its model or the client. `on_change` is called when a breaker closes.
    """

    def __init__(self, slots: Slots, clock: Clock, on_change: Callable[[], None]) -> None:
        self._slots = slots
        self._clock = clock
        self._on_change = on_change
        self._models: dict[str, Breaker] = {}
        #: Number of others beside which each task began that is not answered yet.
        self._beside: dict[TaskRef, int] = {}
        #: When a task was last accepted, by the number of others beside which it began.
        self._accepted_at: dict[int, float] = {}

    def __getitem__(self, model: str) -> Breaker:
        """Return the breaker of a model, by its name for clients or in the registry."""
        return self._models.setdefault(base_name(model), Breaker(self._clock))

    def is_open(self, model: str) -> bool:
        """Say whether no task of a model may begin now."""
        return not self[model].room

    def begin(self, model: str, ref: TaskRef) -> None:
        """Note that a task is sent to the server."""
        self._beside[ref] = self._running
        self[model].running[ref] = self._clock.monotonic()

    def alive(self, model: str, ref: TaskRef) -> None:
        """Note that a task is answered, or that its first event came."""
        self._slots.note_answer()
        beside = self._beside.pop(ref, None)
        if beside is not None:
            self._accepted_at[beside] = self._clock.monotonic()
        if self[model].alive(ref):
            self._on_change()

    def end(self, model: str, ref: TaskRef) -> None:
        """Note that a task is no longer at the server."""
        self._beside.pop(ref, None)
        self[model].running.pop(ref, None)

    def refused(self, model: str, ref: TaskRef) -> bool:
        """Note that the server is busy; return True when its slots are cut for that."""
        self[model].strike(ref)
        beside = self._running - 1
        if beside < 1 or self._has_accepted(beside):
            return False
        return self._slots.cut(beside)

    @property
    def alive_at(self) -> float:
        """Return the time of the server's last answer; negative infinity before the first."""
        times = (breaker.alive_at for breaker in self._models.values())
        return max(times, default=float("-inf"))

    def is_alive(self, seconds: float) -> bool:
        """Say whether the server has answered a task in the last ``seconds``."""
        return self._clock.monotonic() - self.alive_at < seconds

    @property
    def _running(self) -> int:
        return sum(len(breaker.running) for breaker in self._models.values())

    def _has_accepted(self, beside: int) -> bool:
        since = self._clock.monotonic() - ACCEPTED_SECONDS
        return any(count >= beside and at > since for count, at in self._accepted_at.items())
