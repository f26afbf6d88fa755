"""Circuit breakers: when a model rests because tasks fail, and when that is only about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from inferline.clock import Clock
from inferline.names import base_name
from inferline.tasks.task import TaskRef
from inferline_provider.backend.slots import Slots

#: So many different tasks of a model have to fail in a row before that says something of the model
#: and not of them: with fewer, a few clients whose requests always fail would stop all others.
STRIKES_MAX: Final = 3
#: For how long a model rests then, seconds. It doubles each time that nothing was answered in
#: between, up to the second: short, since who comes then may well be answered.
REST_SECONDS: Final = (0.5, 2.0)
#: For how long an answer shows that the others are not answered for reasons of their own, seconds,
ALIVE_SECONDS: Final = 1.0
#: and for how long where some run that had begun before others began to fail: they are answered
#: more slowly than others fail.
VOUCH_SECONDS: Final = 10.0
#: The same for slow models: so many times as long as an answer took.
VOUCH_TIMES: Final = 3.0
#: How long it is remembered with how many others beside it a task was accepted, seconds.
ACCEPTED_SECONDS: Final = 10.0
#: No limit on how many tasks may begin.
UNLIMITED: Final = 1_000_000


class Breaker:
    """
    The breaker of one model.

    It opens after some different tasks have failed in a row, unless the model answers others. Then
    nothing begins for a while; after that one task may try, another each time that the longest
    rest has passed, and the first sign of life, which may be the first event of a long stream,
    closes it again.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: When each task began that is at the server.
        self.running: dict[TaskRef, float] = {}
        #: The tasks that have failed since the last sign of life, and since when.
        self._strikes: set[TaskRef] = set()
        self._struck_at = 0.0
        self._rests = 0
        self._open_until = float("-inf")
        #: When it last showed a sign of life.
        self.alive_at = float("-inf")
        self._vouch_seconds = VOUCH_SECONDS

    @property
    def room(self) -> int:
        """How many more tasks may begin: none while it is open, then one, then as many as wish."""
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
        first, longest = REST_SECONDS
        self._open_until = now + min(longest, first * 2**self._rests)
        self._rests = min(self._rests + 1, 10)
        self._strikes.clear()
        return True

    def _is_vouched_for(self, now: float) -> bool:
        """Whether others are answered: they just were, or ran before the failures began."""
        if now - self.alive_at < ALIVE_SECONDS:
            return True
        if now - self.alive_at >= self._vouch_seconds:
            return False
        return any(begun_at < self._struck_at for begun_at in self.running.values())


class Breakers:
    """
    The breakers of all models of one server, and what its refusals say of its slots.

    A refusal for want of room is believed when no other task was accepted beside as many: else it
    is about its request, its model or whoever asks. `on_change` is called when one closes.
    """

    def __init__(self, slots: Slots, clock: Clock, on_change: Callable[[], None]) -> None:
        self._slots = slots
        self._clock = clock
        self._on_change = on_change
        self._models: dict[str, Breaker] = {}
        #: With how many others each task began that has not been answered yet,
        self._beside: dict[TaskRef, int] = {}
        #: and when a task was last accepted that began with so many.
        self._accepted_at: dict[int, float] = {}

    def __getitem__(self, model: str) -> Breaker:
        """The breaker of a model, by its name at clients or in the registry."""
        return self._models.setdefault(base_name(model), Breaker(self._clock))

    def is_open(self, model: str) -> bool:
        """Say whether no task of a model may begin now."""
        return not self[model].room

    def begin(self, model: str, ref: TaskRef) -> None:
        """Note that a task is put to the server."""
        self._beside[ref] = self._running
        self[model].running[ref] = self._clock.monotonic()

    def alive(self, model: str, ref: TaskRef) -> None:
        """Note that a task is answered, be it only with its first event."""
        self._slots.answered()
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
        """Note that the server said that it is busy; True when it therefore has fewer slots."""
        self[model].strike(ref)
        beside = self._running - 1
        if beside < 1 or self._has_accepted(beside):
            return False
        return self._slots.cut(beside)

    @property
    def alive_at(self) -> float:
        """When the server last answered a task; negative infinity for never."""
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
