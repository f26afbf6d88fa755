"""Pauses between tries: each a pair of the shortest and the longest, seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """Pauses of a provider after failures; where a range is given, a random time in it."""

    #: Pause of a task after a busy backend that named no time.
    busy_seconds: tuple[int, int] = (1, 5)
    #: Pause of a task after a failed attempt.
    retry_seconds: tuple[int, int] = (0, 1)
    #: Pause of all slots after the backend could not be reached, first and longest: it doubles.
    rest_seconds: tuple[float, float] = (0.5, 16.0)
    #: Time between two steps in which slots come back after a cut, first and longest: it doubles.
    recover_seconds: tuple[float, float] = (0.5, 10.0)
    #: Pause of a batch's line after a fault, first and longest: it doubles.
    line_seconds: tuple[float, float] = (1.0, 30.0)


PAUSES: Final = Pauses()
