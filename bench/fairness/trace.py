"""Traces of tenants of unequal load, and what an ideal queue makes of the light ones' requests."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from bench.dispatch.trace import arrivals
from inferline.tasks.task import Tier

#: How long an LLM server works on an answer, seconds, and the spread on the logarithmic scale.
SERVICE_SECONDS = 4.0
SERVICE_SIGMA = 0.8
#: How long a burst lasts on average, seconds.
BURST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Tenant:
    """Tenant and its load, as a share of what all slots can do."""

    name: str
    load: float
    tier: Tier = "default"


@dataclass(frozen=True, slots=True)
class Request:
    """When it comes, whose it is, and how long the LLM server works on it, seconds."""

    at: float
    tenant: Tenant
    service: float


@dataclass(frozen=True, slots=True)
class Fate:
    """Outcome of an answered request: seconds until a slot began, and until it ended."""

    waited: float
    took: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests that a fleet gets."""

    #: The slots of each host.
    hosts: tuple[int, ...]
    requests: tuple[Request, ...]
    #: For how long requests come.
    seconds: float

    @property
    def slots(self) -> int:
        return sum(self.hosts)

    def of(self, names: Collection[str]) -> Trace:
        """Return the same with these tenants' requests alone."""
        kept = tuple(one for one in self.requests if one.tenant.name in names)
        return replace(self, requests=kept)


def make(
    *,
    seed: int,
    hosts: Sequence[int],
    tenants: Sequence[Tenant],
    seconds: float,
    swell: float = 1.0,
    mean: float = SERVICE_SECONDS,
) -> Trace:
    """
    Return a trace in which each tenant asks for its load, whoever else there is.

    Bursts bring ``swell`` times a tenant's mean rate, at times of its own; 1 is no bursts.
    """
    slots = sum(hosts)
    requests: list[Request] = []
    for tenant in tenants:
        chance = random.Random(f"{seed} {tenant.name}")
        rate = tenant.load * slots / mean
        times = list(arrivals(chance, rate, seconds, BURST_SECONDS, swell))
        median = math.log(mean) - SERVICE_SIGMA**2 / 2
        lengths = [chance.lognormvariate(median, SERVICE_SIGMA) for _ in times]
        # So that the load is what it says, and not what chance made of it.
        scale = tenant.load * slots * seconds / sum(lengths)
        requests += [
            Request(at, tenant, length * scale) for at, length in zip(times, lengths, strict=True)
        ]
    requests.sort(key=lambda request: request.at)
    return Trace(hosts=tuple(hosts), requests=tuple(requests), seconds=seconds)


def ideal(trace: Trace, light: Collection[str]) -> dict[int, Fate]:
    """
    Return how the light tenants' requests fare at a queue that serves them first, by their numbers.

    It knows every arrival and every slot at once and loses no moment, but breaks nothing off and
    leaves no slot idle while anybody waits: who does neither can't serve them sooner on average.
    """
    free = [0.0] * trace.slots
    arriving = deque(enumerate(trace.requests))
    first: deque[tuple[int, Request]] = deque()
    rest: deque[tuple[int, Request]] = deque()
    fates: dict[int, Fate] = {}
    while arriving or first:
        now = heapq.heappop(free)
        if not first and not rest:
            now = max(now, arriving[0][1].at)
        while arriving and arriving[0][1].at <= now:
            one = arriving.popleft()
            (first if one[1].tenant.name in light else rest).append(one)
        number, request = (first or rest).popleft()
        end = now + request.service
        heapq.heappush(free, end)
        if request.tenant.name in light:
            fates[number] = Fate(now - request.at, end - request.at)
    return fates
