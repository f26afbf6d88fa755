"""Traces for a fleet of unequal hosts, and what an ideal central queue makes of them."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

#: An answer's length, tokens: the mean, and the spread on the logarithmic scale.
TOKENS_MEAN = 200
TOKENS_SIGMA = 0.8
#: Bursts take up this share of the time.
BURST_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Host:
    """An LLM server: how many answers it works on at once, and how fast on each of them."""

    slots: int
    tokens_per_second: float

    @property
    def capacity(self) -> float:
        """Return the tokens a second, with every slot busy."""
        return self.slots * self.tokens_per_second


@dataclass(frozen=True, slots=True)
class Request:
    """When it is sent, seconds from the beginning, and how long its answer is."""

    at: float
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests that a fleet gets."""

    fleet: tuple[Host, ...]
    requests: tuple[Request, ...]
    #: For how long requests come.
    seconds: float

    def faster(self, times: float) -> Trace:
        """Return the same with everything so many times as fast."""
        return Trace(
            fleet=tuple(Host(h.slots, h.tokens_per_second * times) for h in self.fleet),
            requests=tuple(replace(r, at=r.at / times) for r in self.requests),
            seconds=self.seconds / times,
        )


@dataclass(frozen=True, slots=True)
class Fate:
    """Outcome of one request: seconds until a slot began with it and until it ended, and where."""

    waited: float
    took: float
    host: int


def make(
    *,
    seed: int,
    fleet: Sequence[Host],
    load: float,
    seconds: float,
    burst_seconds: float = 10.0,
    swell: float = 1.5,
) -> Trace:
    """
    Return a trace of ``load`` times the fleet's capacity, in bursts: a Markov-modulated Poisson
    process.

    Bursts of ``burst_seconds`` on average bring ``swell`` times the mean rate, the time between
    them so much less. 1 is no bursts.
    """
    chance = random.Random(seed)
    capacity = sum(host.capacity for host in fleet)
    times = list(arrivals(chance, load * capacity / TOKENS_MEAN, seconds, burst_seconds, swell))
    median = math.log(TOKENS_MEAN) - TOKENS_SIGMA**2 / 2
    lengths = [chance.lognormvariate(median, TOKENS_SIGMA) for _ in times]
    # So that the load is what it says, and not what chance made of it.
    scale = load * capacity * seconds / sum(lengths)
    requests = (Request(at, max(1, round(n * scale))) for at, n in zip(times, lengths, strict=True))
    return Trace(fleet=tuple(fleet), requests=tuple(requests), seconds=seconds)


def arrivals(
    chance: random.Random, rate: float, seconds: float, burst_seconds: float, swell: float
) -> Iterator[float]:
    """
    Yield the moments of a Markov-modulated Poisson process of that mean rate, as `make` has it.
    """
    lull_seconds = burst_seconds * (1 - BURST_SHARE) / BURST_SHARE
    rates = (rate * (1 - BURST_SHARE * swell) / (1 - BURST_SHARE), rate * swell)
    now, bursting = 0.0, False
    until = chance.expovariate(1 / lull_seconds)
    while now < seconds:
        following = now + chance.expovariate(rates[bursting])
        if following < until:
            now = following
            if now < seconds:
                yield now
        else:
            now, bursting = until, not bursting
            until += chance.expovariate(1 / (burst_seconds if bursting else lull_seconds))


def ideal(trace: Trace) -> list[Fate]:
    """
    Return what a central queue makes of a trace that knows everything at once.

    First come, first served, without a moment lost, at the fastest of the slots that are free.
    """
    free = [
        (-host.tokens_per_second, number)
        for number, host in enumerate(trace.fleet)
        for _ in range(host.slots)
    ]
    heapq.heapify(free)
    busy: list[tuple[float, int]] = []
    waiting: deque[Request] = deque()
    arrivals = deque(trace.requests)
    fates = []
    while arrivals or waiting:
        if arrivals and (not busy or arrivals[0].at <= busy[0][0]):
            now = arrivals[0].at
            waiting.append(arrivals.popleft())
        else:
            now, host = heapq.heappop(busy)
            heapq.heappush(free, (-trace.fleet[host].tokens_per_second, host))
        while waiting and free:
            request, (_, host) = waiting.popleft(), heapq.heappop(free)
            end = now + request.tokens / trace.fleet[host].tokens_per_second
            heapq.heappush(busy, (end, host))
            fates.append(Fate(now - request.at, end - request.at, host))
    return fates
