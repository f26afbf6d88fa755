"""What a backend did in a while, and how much better that is than what it did in another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from typing import Final

#: What more slots cost, lest tasks are slowed, or wait inside the backend, for next to nothing:
#: twice as many have to give 3.5 % more.
PRICE: Final = 0.05
#: So many of the first tokens may be late for nothing: fewer than the 5 of 100 that the operator is
#: promised, since it takes hundreds to tell these apart.
LATE_SHARE: Final = 0.02
#: What more late ones than that cost: a share of 0.1 more, 30 % of the throughput.
LATE_PRICE: Final = 3.0
#: What twice the mean time to the first token costs above the bound, 7 %: it leads back from where
#: all are late, and asks for little where prompts are long, which no number of slots reads sooner.
SLOW_PRICE: Final = 0.1
#: With so many first tokens, half of what they show is believed.
FIRSTS_HALF: Final = 20
#: Of answers that are not streamed so many have to end: they tell all at once, or nothing.
ENDED_LEAST: Final = 15
#: Weight of an earlier reading that a later one is added to.
EARLIER_WEIGHT: Final = 0.5

#: Tasks whose tokens count alike: a model, a path, and whether the answer is a stream.
TaskKind = tuple[str, str, bool]


@dataclass(frozen=True, slots=True)
class Tally:
    """What was done for the tasks of a kind."""

    tokens: float = 0.0
    #: The time at the backend in which that was done, seconds.
    seconds: float = 0.0
    #: The same with the time of tasks of which nothing is known before they end.
    all_seconds: float = 0.0
    #: Such tasks that have ended.
    ended: float = 0.0

    def plus(self, other: Tally, weight: float = 1.0) -> Tally:
        """Both together, the other one by its weight."""
        return Tally(
            self.tokens + weight * other.tokens,
            self.seconds + weight * other.seconds,
            self.all_seconds + weight * other.all_seconds,
            self.ended + weight * other.ended,
        )


@dataclass(frozen=True, slots=True)
class Firsts:
    """First tokens of streams."""

    count: float = 0.0
    late: float = 0.0
    #: Sum of their times, seconds.
    seconds: float = 0.0

    def plus(self, other: Firsts, weight: float = 1.0) -> Firsts:
        """Both together, the other ones by their weight."""
        return Firsts(
            self.count + weight * other.count,
            self.late + weight * other.late,
            self.seconds + weight * other.seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a backend did in a while, with so many slots."""

    slots: int
    seconds: float
    #: How long a first token may take, seconds.
    first_seconds_max: float
    tallies: Mapping[TaskKind, Tally] = field(default_factory=dict)
    firsts: Firsts = Firsts()
    #: How many tasks waited inside the backend, on average, as far as it tells.
    waiting: float = 0.0

    @property
    def running(self) -> float:
        """How many tasks the backend had, on average."""
        return sum(tally.all_seconds for tally in self.tallies.values()) / self.seconds

    def tells(self, *, early: bool = False) -> bool:
        """
        Whether it is known of most of the tasks' time what was done in it.

        ``early``, while tasks still run that ran with another number of slots, only streams tell:
        the first of the others to end are the short ones.
        """
        known = sum(
            tally.seconds
            for (_, _, is_stream), tally in self.tallies.items()
            if tally.tokens and (is_stream or (tally.ended >= ENDED_LEAST and not early))
        )
        return 0 < sum(tally.all_seconds for tally in self.tallies.values()) <= 2 * known

    def after(self, earlier: Measurement) -> Measurement:
        """Both as one; the earlier one counts half."""
        share = EARLIER_WEIGHT * earlier.seconds / (self.seconds + EARLIER_WEIGHT * earlier.seconds)
        return Measurement(
            slots=self.slots,
            seconds=self.seconds + EARLIER_WEIGHT * earlier.seconds,
            first_seconds_max=self.first_seconds_max,
            tallies={
                kind: self.tallies.get(kind, Tally()).plus(
                    earlier.tallies.get(kind, Tally()), EARLIER_WEIGHT
                )
                for kind in {*self.tallies, *earlier.tallies}
            },
            firsts=self.firsts.plus(earlier.firsts, EARLIER_WEIGHT),
            waiting=(1 - share) * self.waiting + share * earlier.waiting,
        )

    def lateness(self) -> float:
        """What late first tokens cost."""
        count, first_max = self.firsts.count, self.first_seconds_max
        if not count:
            return 0.0
        late = max(0.0, self.firsts.late / count - LATE_SHARE)
        slow = log(max(1.0, self.firsts.seconds / count / first_max))
        return LATE_PRICE * late + SLOW_PRICE * slow


@dataclass(frozen=True, slots=True)
class Worth:
    """How much better one reading is than another, as a logarithm: 0.01 is about 1 %."""

    #: Of the throughput.
    growth: float
    #: What more slots cost, and what comes late and waits because of them.
    price: float
    lateness: float
    waiting: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.growth - self.price - self.lateness - self.waiting

    @property
    def objection(self) -> str:
        """What speaks against it if anything does, as a clause for the log."""
        if self.growth <= self.price:
            return "it does no more with more"
        if self.waiting > self.lateness:
            return "more would wait inside it"
        return "with more, first tokens come too late"


def worth(new: Measurement, old: Measurement) -> Worth:
    """How much better ``new`` is than ``old``."""
    firsts = min(new.firsts.count, old.firsts.count)
    return Worth(
        growth=_growth(new, old),
        price=PRICE * log(new.slots / old.slots),
        lateness=(new.lateness() - old.lateness()) * firsts / (firsts + FIRSTS_HALF),
        waiting=new.waiting / new.running - old.waiting / old.running,
    )


def _growth(new: Measurement, old: Measurement) -> float:
    """
    How much more is done.

    Kinds are compared each with itself: a token of a small model is not one of a large model. So
    it does not count as growth when more is asked of the small one.
    """
    grown = weights = 0.0
    for kind, after in new.tallies.items():
        before = old.tallies.get(kind, Tally())
        if after.tokens and before.tokens and after.seconds and before.seconds:
            weight = after.all_seconds / new.seconds + before.all_seconds / old.seconds
            speeds = after.tokens / after.seconds, before.tokens / before.seconds
            grown += weight * log(speeds[0] / speeds[1])
            weights += weight
    return (grown / weights if weights else 0.0) + log(new.running / old.running)
