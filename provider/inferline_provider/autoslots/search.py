"""Search for the best number of slots: the next number to try, by the results so far."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Final

#: Difference of a trial from the held number while nothing is known of that side, as a logarithm:
#: at first; where something is known, or was; and around a number that has proved best. It doubles
#: with each trial that was better.
STEP_FIRST: Final = log(2.0)
STEP_ANEW: Final = log(1.4)
STEP_LEAST: Final = log(1.06)
#: Numbers that are nearer than this count as the same.
NEAR: Final = log(1.07)
#: Least gain for which more slots are held, as a logarithm: two measurements of the same may differ
#: by as much. Trials of one number count together, so that half of it is enough for four of them,
#: unless they differ by more than `SAME`: then the backend has changed.
WORTH_LEAST: Final = 0.01
TRIALS_MAX: Final = 8
SAME: Final = 0.1


class Search:
    """
    A walk to the best number: larger and smaller ones in turn, nearer and nearer.

    It knows nothing of time, and of a measurement only the gain.
    """

    def __init__(self, held: int, most: int, step: float) -> None:
        self.held = held
        self.most = most
        self._step = step
        self._is_up = True
        #: The nearest numbers that proved worse; None: nothing is known of that side.
        self._low: int | None = None
        self._high: int | None = None
        #: Mean gain of each number that was tried beside the held one, and its number of trials.
        self._tried: dict[int, tuple[float, int]] = {}

    @property
    def is_climbing(self) -> bool:
        """Return True while it still doubles the number, and no end is in sight."""
        return self._is_up and self._high is None and self._step == STEP_FIRST

    def next(self) -> int | None:
        """Return the number to try; None when all that are near enough have been tried."""
        for _ in ("this side", "the other"):
            if (number := self._aim()) is not None:
                return number
            self._is_up = not self._is_up
        return None

    def tell(self, number: int, worth: float, *, clear: bool) -> bool:
        """Note the gain of a trial; return True if its number is held from now on."""
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
        """Try both sides again, first `step` away; `up` says which side first, else the one due."""
        self._low = self._high = None
        self._step = min(STEP_FIRST, max(STEP_LEAST, step))
        self._is_up = self._is_up if up is None else up

    def shorten(self) -> None:
        """Take a smaller step next time where nothing is known: there was no work for so many."""
        self._step = max(STEP_LEAST, self._step / 2)

    def changed(self, *, better: bool) -> None:
        """Begin anew around the held number: its result has changed."""
        self._tried.clear()
        self.again(max(self._step, STEP_ANEW), up=better)

    def lower(self, share: float) -> None:
        """Hold a share of the number, which was too large."""
        worse, self.held = self.held, max(1, int(self.held * share))
        self._tried.clear()
        self._low, self._high = None, worse

    def _aim(self) -> int | None:
        """Return the number to try on the side whose turn it is; None for none."""
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
