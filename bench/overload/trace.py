"""Traces of more requests than can be answered, and how many of them anybody could answer."""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

#: For so long requests come, and answers count, seconds. Nobody gains by the calm after the storm.
SECONDS = 600.0
#: How much more than the mean comes in a burst, and less in the lull after it.
SWING = 0.5
#: How much time a request must have left to be begun, in mean times that one takes.
MARGINS = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5)


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a trace."""

    at: float
    #: How long the LLM server works on it, seconds; nobody knows before it is done.
    service: float
    #: How long its client waits, seconds.
    patience: float
    model: int = 0

    @property
    def gone(self) -> float:
        """Return when its client leaves."""
        return self.at + self.patience

    @property
    def due(self) -> float:
        """Return when an answer comes too late, or too late to be counted."""
        return min(self.gone, SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests that a line gets, and its number of slots."""

    slots: int
    requests: tuple[Request, ...]

    @property
    def load(self) -> float:
        """Return the work asked for over the work that the slots can do while requests come."""
        return sum(request.service for request in self.requests) / (self.slots * SECONDS)


def make(
    *,
    seed: int,
    slots: int,
    load: float = 1.2,
    mean: float = 4.0,
    sigma: float = 0.8,
    patience: tuple[float, float] = (5.0, 30.0),
    burst_seconds: float = 0.0,
    models: int = 1,
) -> Trace:
    """
    Return a trace: Poisson arrivals, lognormal lengths, patience spread evenly.

    ``sigma`` is the lengths' spread on the logarithmic scale: 0 for answers that all take
    ``mean`` seconds. With ``burst_seconds`` bursts and lulls of that length take turns.
    """
    chance = random.Random(seed)
    median = math.log(mean) - sigma**2 / 2
    times = _times(chance, load * slots / mean, burst_seconds)
    requests = [
        Request(
            at,
            chance.lognormvariate(median, sigma) if sigma else mean,
            chance.uniform(*patience),
            chance.randrange(models),
        )
        for at in times
    ]
    # So that the load is what it says, and not what chance made of it.
    scale = load * slots * SECONDS / sum(request.service for request in requests)
    scaled = [Request(r.at, r.service * scale, r.patience, r.model) for r in requests]
    return Trace(slots=slots, requests=tuple(scaled))


def _times(chance: random.Random, rate: float, burst_seconds: float) -> Iterator[float]:
    now = 0.0
    while True:
        swing = 0.0
        if burst_seconds:
            swing = -SWING if int(now / burst_seconds) % 2 else SWING
        now += chance.expovariate(rate * (1 + swing))
        if now >= SECONDS:
            return
        yield now


def foreseeing(trace: Trace) -> set[int]:
    """
    Return whom a dispatcher answers in time that knows beforehand how long each answer will take.

    It starts nothing that would be late, and of the rest always what must be ready first; it takes
    no time over that. What it leaves out is what takes long.
    """
    return _dispatch(trace, lambda request, now, _: now + request.service <= request.due)


def unforeseeing(trace: Trace) -> set[int]:
    """
    Return whom a dispatcher answers in time that knows everything at once but how long answers will
    take.

    It, too, starts first what must be ready first, and drops what has too little time left unless
    nobody else waits. How little is too little it knows for this very trace: it is the best of all
    that are tried.
    """
    mean = sum(request.service for request in trace.requests) / len(trace.requests)

    def served(margin: float) -> set[int]:
        return _dispatch(
            trace,
            lambda request, now, alone: alone or request.gone - now >= margin * mean,
        )

    return max(map(served, MARGINS), key=len)


def _dispatch(trace: Trace, begins: Callable[[Request, float, bool], bool]) -> set[int]:
    """
    Return whom a dispatcher answers in time that begins what it is told to, the most urgent first.
    """
    free = [0.0] * trace.slots
    waiting: list[tuple[float, int]] = []
    requests, done, at = trace.requests, set[int](), 0
    while at < len(requests) or waiting:
        now = heapq.heappop(free)
        if not waiting and at < len(requests):
            now = max(now, requests[at].at)
        while at < len(requests) and requests[at].at <= now:
            heapq.heappush(waiting, (requests[at].gone, at))
            at += 1
        while waiting:
            gone, number = heapq.heappop(waiting)
            request = requests[number]
            if now < gone and begins(request, now, not waiting):
                end = now + request.service
                if end <= request.due:
                    done.add(number)
                now = min(end, gone)
                break
        heapq.heappush(free, now)
    return done


def bound(trace: Trace) -> float:
    """
    Return a share in time that no dispatcher exceeds, on average, unless it can foresee lengths.

    It may know everything else at once: arrivals to come, patience, every slot, and how lengths
    are spread; it may wait, reorder, refuse, drop, and break off what runs. Whoever starts a
    request and gives it up after r seconds at the latest pays E[min(length, r)] of a slot for
    P(length <= r) of an answer. So each second of a slot gives at most the best of these ratios,
    each request takes no slot before it comes or after its client left, and what the slots can do
    of that is a flow, which serving the earliest deadline first makes as large as can be.
    """
    lengths = sorted(request.service for request in trace.requests)
    sums = [0.0, *accumulate(lengths)]

    def chance(seconds: float) -> float:
        return bisect_right(lengths, seconds) / len(lengths)

    def cost(seconds: float) -> float:
        done = bisect_right(lengths, seconds)
        return (sums[done] + seconds * (len(lengths) - done)) / len(lengths)

    longest = max(request.patience for request in trace.requests)
    tried = [length for length in lengths if length <= longest]
    best = max(chance(seconds) / cost(seconds) for seconds in tried)
    wanted = [(r.at, r.due, chance(r.due - r.at) / best) for r in trace.requests]
    return best * _flow(wanted, trace.slots) / len(lengths)


def _flow(wanted: Sequence[tuple[float, float, float]], slots: int) -> float:
    """
    Return how much of the work the slots can do: each piece between its two times, in any portions.

    The slots count as one that is as fast as all of them, which can only do more.
    """
    waiting: list[tuple[float, float]] = []
    now = done = 0.0
    for at, (begin, _, _) in enumerate([*wanted, (math.inf, math.inf, 0.0)]):
        while waiting and now < begin:
            due, work = heapq.heappop(waiting)
            end = min(begin, now + work / slots, due)
            if end > now:
                done += (end - now) * slots
                rest = work - (end - now) * slots
                now = end
                if rest > 1e-9 and now < due:
                    heapq.heappush(waiting, (due, rest))
        now = max(now, begin)
        if at < len(wanted):
            heapq.heappush(waiting, wanted[at][1:])
    return done
