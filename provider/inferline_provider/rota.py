"""
Whose turn it is: which of its queues a provider asks next, since SQS can't be asked for several.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from inferline.task import TIERS, Tier

#: Every so many turns the queue that waited longest has its turn, whatever its tier.
FAIR_TURNS: Final = 10
#: The first and the longest pause after a receive that failed; it doubles in between, seconds.
PAUSE_SECONDS: Final = (1.0, 30.0)


@dataclass(slots=True, eq=False)
class Place:
    """One queue, as last seen."""

    url: str
    model: str
    tier: Tier
    #: Its last receive brought something: it is asked when there is room. Otherwise it is cold, and
    #: one receive waits at it all the time.
    hot: bool = False
    #: A receive is out.
    asked: bool = False
    #: The turn it last had.
    turn: int = 0
    #: When the oldest message of its last receive was sent, milliseconds since 1970.
    oldest_ms: int = 0
    failures: int = 0
    #: Not to be asked before this moment, seconds of the caller's clock.
    ask_at: float = 0.0


class Rota:
    """
    Remembers what each queue last brought. Knows nothing of SQS or of time but what it is told.
    """

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._turn = 0
        self._loaded = ""

    def arrange(self, queues: Mapping[str, Mapping[Tier, str]]) -> None:
        """Serve these queues, by model and tier, from now on."""
        known = self._places
        self._places = {
            url: known.get(url) or Place(url, model, tier)
            for model, tiers in queues.items()
            for tier, url in tiers.items()
        }

    def cold(self, now: float) -> list[Place]:
        """Return the queues to wait at that nobody waits at yet."""
        return [place for place in self._ready(now) if not place.hot]

    def hottest(self, now: float) -> Place | None:
        """Return the queue to ask next of those that had work, and count this as its turn."""
        hot = [place for place in self._ready(now) if place.hot]
        if not hot:
            return None
        self._turn += 1
        fair = self._turn % FAIR_TURNS == 0
        place = min(hot, key=(lambda p: p.turn) if fair else self._rank)
        place.turn = self._turn
        return place

    def came(self, place: Place, sent_ms: Iterable[int]) -> None:
        """Note what a receive brought: when each of its messages was sent."""
        times = list(sent_ms)
        place.asked = False
        place.failures = 0
        place.hot = bool(times)
        place.oldest_ms = min(times, default=0)

    def failed(self, place: Place, now: float) -> None:
        """Note that a receive failed: leave the queue alone for a while."""
        place.asked = False
        first, longest = PAUSE_SECONDS
        place.ask_at = now + min(longest, first * 2 ** min(place.failures, 10))
        place.failures += 1

    def ran(self, model: str) -> None:
        """Note the model that was last run: the backend has it loaded."""
        self._loaded = model

    def _ready(self, now: float) -> list[Place]:
        return [p for p in self._places.values() if not p.asked and p.ask_at <= now]

    def _rank(self, place: Place) -> tuple[int, bool, int, int]:
        tier = TIERS.index(place.tier)
        return tier, place.model != self._loaded, place.oldest_ms, place.turn
