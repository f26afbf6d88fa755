"""Which number of slots to try next, given what became of those that were tried."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Final

#: By how much a trial differs from the number that is held while nothing is known of that side, as
#: a logarithm: at first; where something is known of it, or was; and around a number that was
#: found. It doubles with each trial that was worth it.
STEP_FIRST: Final = log(2.0)
STEP_ANEW: Final = log(1.4)
STEP_LEAST: Final = log(1.06)
#: Between numbers that are nearer than this, none is tried.
NEAR: Final = log(1.07)
#: What more slots must be worth to be held, as a logarithm: two readings of the same may differ by
#: as much. Trials of one number count together, and then half of it will do for four of them;
#: unless they differ by more than this: then the backend is another than before.
WORTH_LEAST: Final = 0.01
TRIALS_MAX: Final = 8
SAME: Final = 0.1


class Search:
    """
    A walk to the number that is worth most: larger and smaller ones in turn, nearer and nearer.

    It knows nothing of time, nor of what is measured but how much more a trial was worth.
    """

    def __init__(self, held: int, most: int, step: float) -> None:
        self.held = held
        self.most = most
        self._step = step
        self._is_up = True
        #: The nearest numbers that were found to be worse; None: nothing is known of that side.
        self._low: int | None = None
        self._high: int | None = None
        #: Mean worth of each number that was tried beside the one held, and of how many trials.
        self._tried: dict[int, tuple[float, int]] = {}

    @property
    def is_climbing(self) -> bool:
        """Whether it still doubles the number, and no end is in sight."""
        return self._is_up and self._high is None and self._step == STEP_FIRST

    def next(self) -> int | None:
        """The number to try; None when all that are near enough have been tried."""
        for _ in ("this side", "the other"):
            if (number := self._aim()) is not None:
                return number
            self._is_up = not self._is_up
        return None

    def tell(self, number: int, worth: float, *, clear: bool) -> bool:
        """Take note of how much more a trial was worth; True if that number is held from now on."""
        mean, count = self._tried.get(number, (worth, 0))
        count = 1 if abs(worth - mean) > SAME else min(count + 1, TRIALS_MAX)
        mean += (worth - mean) / count
        self._tried[number] = mean, count
        least = WORTH_LEAST / sqrt(count) if number > self.held else 0.0
        if is_held := worth > 0 if clear else mean > least:
            worse, self.held = self.held, number
            self._step = min(STEP_FIRST, 2 * self._step)
            self._tried.clear()
        else:
            worse = number
            self._is_up = not self._is_up
        if worse > self.held:
            self._high = worse
        else:
            self._low = worse
        return is_held

    def again(self, step: float, *, up: bool | None = None) -> None:
        """Try both sides again, at first ``step`` away; which one first, or the one due."""
        self._low = self._high = None
        self._step = min(STEP_FIRST, max(STEP_LEAST, step))
        self._is_up = self._is_up if up is None else up

    def shorten(self) -> None:
        """Go less far next time where nothing is known: there was no work for so many."""
        self._step = max(STEP_LEAST, self._step / 2)

    def changed(self, *, better: bool) -> None:
        """What the held number is worth has changed: what was found is no longer true."""
        self._tried.clear()
        self.again(max(self._step, STEP_ANEW), up=better)

    def lower(self, share: float) -> None:
        """Hold a share of the number: it was too many."""
        worse, self.held = self.held, max(1, int(self.held * share))
        self._tried.clear()
        self._low, self._high = None, worse

    def _aim(self) -> int | None:
        """The number to try on the side whose turn it is; None for none."""
        held, worse = self.held, self._high if self._is_up else self._low
        if worse is not None:
            if abs(log(worse / held)) < NEAR:
                return None
            number = round(sqrt(held * worse))
        elif self._is_up:
            number = min(self.most, max(held + 1, round(held * exp(self._step))))
        else:
            number = max(1, min(held - 1, round(held / exp(self._step))))
        return None if number in (held, worse) else number
