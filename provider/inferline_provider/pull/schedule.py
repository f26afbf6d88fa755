"""
Whose turn it is: which of its queues a provider asks next, since SQS can't be asked for several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from inferline.names import base_name
from inferline.tasks.queue import RECEIVE_MAX
from inferline.tasks.task import TIERS, Tier

#: Every so many turns the queue that waited longest has its turn, whatever its tier.
FAIR_TURNS: Final = 10
#: Receives under way at one queue, besides the one that waits there.
RECEIVES_MAX: Final = 8
#: A receive that waits for longer waits because nothing is there, seconds.
PROMPT_SECONDS: Final = 0.1
#: The first and the longest pause after a receive that failed; it doubles in between, seconds.
PAUSE_SECONDS: Final = (1.0, 30.0)


@dataclass(slots=True, eq=False)
class QueueState:
    """One queue, as last seen."""

    url: str
    #: As the registry calls it.
    model: str
    tier: Tier
    #: Its last receive brought something. Otherwise it is cold.
    hot: bool = False
    #: How many receives in a row brought all that they asked for: there is more.
    full: int = 0
    #: How many messages the receive asks for that waits there, and since when; 0 when none does.
    waiting: int = 0
    waiting_since: float = 0.0
    #: How many other receives are out.
    asked: int = 0
    #: When the last receive came back; infinite before the first.
    heard_at: float = inf
    #: The turn it last had.
    turn: int = 0
    #: When the oldest message of its last receive was sent, milliseconds since 1970.
    oldest_ms: int = 0
    failures: int = 0
    #: Not to be asked before this moment, seconds of the caller's clock.
    ask_at: float = 0.0

    def unheard(self, now: float) -> bool:
        """Whether nobody has looked at it for a while, so that something may have come to it."""
        is_out = self.waiting or self.asked
        return not is_out and now > max(self.heard_at, self.ask_at) + PROMPT_SECONDS


@dataclass(frozen=True, slots=True)
class PendingReceive:
    """One receive that is out."""

    place: QueueState
    limit: int
    #: It waits for the first message. What does not wait has its slots already.
    waits: bool


class PollSchedule:
    """
    Remembers what each queue last brought. Knows nothing of SQS or of time but what it is told.

    One receive waits at a queue that is cold, or that alone is hot: it brings what is there at
    once. Where several are hot they are asked in turns, and none waits. A queue that brings all
    that it is asked for is asked by more receives at once each time.

    While no slot is free nobody goes on waiting at a cold queue, and something may come to it. So
    before there is work of a lower tier, it has its turn as if it were hot.
    """

    def __init__(self, is_open: Callable[[str], bool] = lambda model: True) -> None:
        """``is_open`` says whether tasks of a model may begin; else its queues are left alone."""
        self._is_open = is_open
        self._places: dict[str, QueueState] = {}
        self._turn = 0
        self._loaded = ""

    def arrange(self, queues: Mapping[str, Mapping[Tier, str]]) -> None:
        """Serve these queues, by model and tier, from now on."""
        known = self._places
        self._places = {
            url: known.get(url) or QueueState(url, model, tier)
            for model, tiers in queues.items()
            for tier, url in tiers.items()
        }

    def cold(self, now: float) -> list[QueueState]:
        """Return the queues to wait at that nobody waits at yet."""
        turns = self._turns(now)
        alone = len(turns) <= 1
        return [p for p in self._ready(now) if not p.waiting and (alone or p not in turns)]

    def hottest(self, now: float, free: int) -> tuple[QueueState, int] | None:
        """
        Return the queue to ask next of those that have turns, and count this as its turn.

        Besides, for how many messages to ask it when so many slots are free.
        """
        turns = self._turns(now)
        alone = len(turns) <= 1
        rooms = {p: self._room(p, now, free, alone=alone) for p in turns if p.ask_at <= now}
        hot = [place for place, room in rooms.items() if room > 0]
        if not hot:
            return None
        self._turn += 1
        fair = self._turn % FAIR_TURNS == 0
        place = min(hot, key=(lambda p: p.turn) if fair else self._rank)
        place.turn = self._turn
        return place, min(RECEIVE_MAX, rooms[place])

    def begin(self, place: QueueState, limit: int, now: float, *, waits: bool) -> PendingReceive:
        """Note that a queue is asked."""
        if waits:
            place.waiting, place.waiting_since = limit, now
        else:
            place.asked += 1
        return PendingReceive(place, limit, waits)

    def came(self, receive: PendingReceive, sent_ms: Iterable[int], now: float) -> None:
        """Note what a receive brought: when each of its messages was sent."""
        times, place = list(sent_ms), self._back(receive, now)
        place.failures = 0
        place.hot = bool(times)
        place.full = place.full + 1 if len(times) == receive.limit else 0
        place.oldest_ms = min(times, default=0)

    def failed(self, receive: PendingReceive, now: float) -> None:
        """Note that a receive failed: leave the queue alone for a while."""
        place = self._back(receive, now)
        if place.ask_at > now:
            return
        first, longest = PAUSE_SECONDS
        place.ask_at = now + min(longest, first * 2 ** min(place.failures, 10))
        place.failures += 1

    def leave(self, place: QueueState, until: float) -> None:
        """Leave a queue alone until a moment: what it brought was given back."""
        place.hot, place.full = False, 0
        place.ask_at = max(place.ask_at, until)

    def due(self, now: float) -> float:
        """How long until one that is left alone may be asked, seconds; infinite if none is."""
        return min((p.ask_at - now for p in self._places.values() if p.ask_at > now), default=inf)

    def ran(self, model: str) -> None:
        """Note the model that was last run: the backend has it loaded."""
        self._loaded = model

    def _ready(self, now: float) -> list[QueueState]:
        places = self._places.values()
        return [p for p in places if p.ask_at <= now and self._is_open(p.model)]

    def _turns(self, now: float) -> list[QueueState]:
        """Those that are asked in turns: the hot ones, and the better ones that nobody hears."""
        places = [place for place in self._places.values() if self._is_open(place.model)]
        lowest = max((TIERS.index(place.tier) for place in places if place.hot), default=0)
        return [p for p in places if p.hot or (TIERS.index(p.tier) < lowest and p.unheard(now))]

    def _room(self, place: QueueState, now: float, free: int, *, alone: bool) -> int:
        """For how many messages a queue may be asked besides the receives that are out."""
        more = min(place.full, RECEIVES_MAX)
        if not alone:
            return free if place.asked < max(1, more) else 0
        is_prompt = now < place.waiting_since + PROMPT_SECONDS
        return free - place.waiting if is_prompt and place.asked < more else 0

    def _back(self, receive: PendingReceive, now: float) -> QueueState:
        receive.place.heard_at = now
        if receive.waits:
            receive.place.waiting = 0
        else:
            receive.place.asked -= 1
        return receive.place

    def _rank(self, place: QueueState) -> tuple[int, bool, int, int]:
        tier = TIERS.index(place.tier)
        return tier, base_name(place.model) != self._loaded, place.oldest_ms, place.turn
