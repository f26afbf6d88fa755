"""Measurements of a backend, and how much better one is than another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from typing import Final

#: Price of more slots, so that tasks are not slowed, or wait inside the backend, for next to
#: nothing: twice as many slots must give 3.5 % more.
PRICE: Final = 0.05
#: Share of the first tokens that may be late without a price: fewer than the 5 of 100 that the
#: operator is promised, since only hundreds of them would show the difference.
LATE_SHARE: Final = 0.02
#: Price of more late ones: a share of 0.1 more costs 30 % of the throughput.
LATE_PRICE: Final = 3.0
#: Price of twice the mean time to the first token above the bound, 7 %: it leads back when all are
#: late, and is small where prompts are long, which no number of slots speeds up.
SLOW_PRICE: Final = 0.1
#: Number of first tokens at which half of their effect counts.
FIRSTS_HALF: Final = 20
#: Number of answers that must end where they are not streamed: one shows nothing before its end.
ENDED_LEAST: Final = 15
#: Weight of an earlier reading that a later one is added to.
EARLIER_WEIGHT: Final = 0.5

#: Tasks whose tokens count alike: a model, a path, and whether the answer is a stream.
TaskKind = tuple[str, str, bool]


@dataclass(frozen=True, slots=True)
class Tally:
    """Work that was done for the tasks of a kind."""

    tokens: float = 0.0
    #: Time at the backend in which it was done, seconds.
    seconds: float = 0.0
    #: The same with the time of tasks that show nothing before they end.
    all_seconds: float = 0.0
    #: Number of such tasks that have ended.
    ended: float = 0.0

    def plus(self, other: Tally, weight: float = 1.0) -> Tally:
        """Return both together, the other one by its weight."""
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
        """Return both together, the other ones by their weight."""
        return Firsts(
            self.count + weight * other.count,
            self.late + weight * other.late,
            self.seconds + weight * other.seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Work of a backend over some time, with a number of slots."""

    slots: int
    seconds: float
    #: The longest time that a first token may take, seconds.
    first_seconds_max: float
    tallies: Mapping[TaskKind, Tally] = field(default_factory=dict)
    firsts: Firsts = Firsts()
    #: Mean number of tasks that waited inside the backend, as it reports.
    waiting: float = 0.0

    @property
    def running(self) -> float:
        """Return the mean number of tasks at the backend."""
        return sum(tally.all_seconds for tally in self.tallies.values()) / self.seconds

    def tells(self, *, early: bool = False) -> bool:
        """
        Say whether the work done in most of the tasks' time is known.

        While tasks still run that began with another number of slots (`early`), only streams count:
        the first of the others to end are the short ones.
        """
        known = sum(
            tally.seconds
            for (_, _, is_stream), tally in self.tallies.items()
            if tally.tokens and (is_stream or (tally.ended >= ENDED_LEAST and not early))
        )
        return 0 < sum(tally.all_seconds for tally in self.tallies.values()) <= 2 * known

    def after(self, earlier: Measurement) -> Measurement:
        """Return both as one; the earlier one counts half."""
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
        """Return the price of late first tokens."""
        count, first_max = self.firsts.count, self.first_seconds_max
        if not count:
            return 0.0
        late = max(0.0, self.firsts.late / count - LATE_SHARE)
        slow = log(max(1.0, self.firsts.seconds / count / first_max))
        return LATE_PRICE * late + SLOW_PRICE * slow


@dataclass(frozen=True, slots=True)
class Worth:
    """Gain of one measurement over another, as a logarithm: 0.01 is about 1 %."""

    #: Of the throughput.
    growth: float
    #: Prices of more slots, of late first tokens and of tasks that wait inside.
    price: float
    lateness: float
    waiting: float

    @property
    def total(self) -> float:
        """Sum of the gain and its prices."""
        return self.growth - self.price - self.lateness - self.waiting

    @property
    def objection(self) -> str:
        """Main reason against it, as a clause for the log."""
        if self.growth <= self.price:
            return "it does no more with more"
        if self.waiting > self.lateness:
            return "more would wait inside it"
        return "with more, first tokens come too late"


def worth(new: Measurement, old: Measurement) -> Worth:
    """Return the gain of `new` over `old`."""
    firsts = min(new.firsts.count, old.firsts.count)
    return Worth(
        growth=_growth(new, old),
        price=PRICE * log(new.slots / old.slots),
        lateness=(new.lateness() - old.lateness()) * firsts / (firsts + FIRSTS_HALF),
        waiting=new.waiting / new.running - old.waiting / old.running,
    )


def _growth(new: Measurement, old: Measurement) -> float:
    """
    Return the growth of the work.

    Each kind is compared with itself: a token of a small model is not one of a large model. So more
    tasks for the small one are no growth.
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
