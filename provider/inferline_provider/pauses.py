"""Pauses between tries: each a pair of the shortest and the longest, seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """The pauses of a provider after what went wrong."""

    #: A task's after a busy backend that did not say for how long; one in between is drawn.
    busy_seconds: tuple[int, int] = (1, 5)
    #: A task's after a failed attempt; one in between is drawn.
    retry_seconds: tuple[int, int] = (0, 1)
    #: All slots' after the backend could not be reached: doubled while no answer comes.
    rest_seconds: tuple[float, float] = (0.5, 16.0)
    #: Between two steps in which slots come back after a cut: doubled when one is refused again.
    recover_seconds: tuple[float, float] = (0.5, 10.0)


PAUSES: Final = Pauses()
