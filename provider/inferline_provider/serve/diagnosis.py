"""Diagnosis of the backend from the faults of single tasks: is it well, busy or failing?"""

from __future__ import annotations

from inferline.tasks.task import Task
from inferline_provider.autoslots.tuner import Tuner
from inferline_provider.backend.breaker import ALIVE_SECONDS, Breakers
from inferline_provider.backend.health import BackendHealth
from inferline_provider.backend.slots import Slots
from inferline_provider.faults import BadAnswer, Busy, Fault, KeyRefused, Unreachable


class Diagnosis:
    """The conclusions from faults, passed on to slots, breakers, tuner and health."""

    def __init__(
        self, slots: Slots, breakers: Breakers, health: BackendHealth, tuner: Tuner | None
    ) -> None:
        self._slots = slots
        self.breakers = breakers
        self._health = health
        self._tuner = tuner
        #: When the backend last answered before it seemed to refuse the provider's key.
        self._refused_at = float("-inf")

    async def is_well(self) -> bool:
        """Say whether the backend works; check it unless it has just answered."""
        if not self.breakers.is_alive(ALIVE_SECONDS):
            await self._health.check()
        return self._health.is_healthy

    @property
    def has_good_key(self) -> bool:
        """Return True if the backend has answered others, so that it takes the provider's key."""
        return self.breakers.alive_at > self._refused_at

    def conclude(self, task: Task, fault: Fault, *, again: bool) -> None:
        """
        Take note of a fault at a task.

        `again`: the backend has refused it before, so that this is nothing new.
        """
        breaker = self.breakers[task.model]
        if isinstance(fault, Unreachable):
            self._slots.note_unreachable()
        elif isinstance(fault, Busy):
            if not fault.is_final and not again:
                self._refused(task)
        elif isinstance(fault, KeyRefused):
            # If others were answered with the key, the request was refused; and a refusal that a
            # client may see need not be about the key.
            is_key = not self.has_good_key and fault.answer is None
            if is_key or breaker.strike(task.ref):
                self._refused_at = self.breakers.alive_at
                self._health.refuse_key()
                return
        elif isinstance(fault, BadAnswer) and not fault.is_repeated:
            breaker.strike(task.ref)
        self._health.doubt()

    def _refused(self, task: Task) -> None:
        is_cut = self.breakers.refused(task.model, task.ref)
        if is_cut and self._tuner is not None:
            self._tuner.refused()
