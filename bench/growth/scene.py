"""A scene of the fleet's growth: how much there is of everything, and what was counted in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from bench.harness.counting import Tally

#: How long it is counted, and how long where requests are many.
COUNT_SECONDS = 60.0
COUNT_SECONDS_MANY = 30.0
MANY_PER_SECOND = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Numbers of providers, models and requests."""

    providers: int
    models: int
    #: Requests a second.
    per_second: float
    #: Whether each request and each heartbeat is a run of a function, or all are one process's.
    functions: bool
    #: Whether all providers are started anew while it is counted.
    restarts: bool = False

    @property
    def seconds(self) -> float:
        """Return how long it is counted."""
        return COUNT_SECONDS_MANY if self.per_second > MANY_PER_SECOND else COUNT_SECONDS


@dataclass(slots=True)
class Counted:
    """Calls in so many seconds, by purpose and place."""

    seconds: float
    tallies: dict[tuple[str, str], Tally]
    events: Counter[str]

    def raw(self) -> dict[str, Any]:
        """Return everything, for the file."""
        tallies = {" ".join(key): tally.raw() for key, tally in self.tallies.items()}
        return {"seconds": self.seconds, "events": dict(self.events), "tallies": tallies}
