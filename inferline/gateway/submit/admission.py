"""Admission: chooses a request's queue, and refuses at once what could not be answered in time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp
from typing import Final

from inferline.clock import Clock
from inferline.errors import QueueFull
from inferline.fleet.registry import NOBODY, Model
from inferline.gateway.catalogue import Catalogue, DepthReading
from inferline.gateway.submit import fairness
from inferline.gateway.submit.active_tenants import ActiveTenants
from inferline.names import base_name
from inferline.settings import Settings
from inferline.tasks.task import TIERS, Tier

#: Mean task times that a request must have left when it reaches the backend; the quarter covers
#: uncertainty. `python -m bench overload` shows the effect.
SERVICE_MARGIN: Final = 1.25
#: Over how long the flow of requests is averaged, seconds.
FLOW_SECONDS: Final = 10.0
#: When arrivals equal departures, the queue is assumed to shrink at this share of its service rate.
SHRINK_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class ServiceRate:
    """The rate at which a model's live providers end its tasks."""

    slots: int
    #: Tasks a second, and the mean time that one takes at the backend; 0 while nobody knows.
    rate: float = 0.0
    service_seconds: float = 0.0


class QueueEstimate:
    """
    An estimate of a queue's length: the last reading, carried forward.

    Tasks admitted since then are added, tasks that must have ended are subtracted. Below 0 it is
    the number of free slots.
    """

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self._reading: DepthReading | None = None
        self._count = self._at = 0.0
        self._flow = self._flow_at = 0.0

    def waiting(self, reading: DepthReading, pace: ServiceRate, now: float) -> float:
        """Return how many wait now, which is not before ``reading``."""
        if self._reading is not reading:
            self._reading, self._at = reading, reading.at
            free = max(0, pace.slots - reading.depth.running)
            self._count = reading.depth.waiting or -free
        ended = (now - self._at) * pace.rate
        self._count, self._at = max(-pace.slots, self._count - ended), now
        return self._count

    def add(self, now: float) -> None:
        """Count an admitted task."""
        self._count += 1
        self._flow, self._flow_at = self.flow(now) + 1 / FLOW_SECONDS, now

    def flow(self, now: float) -> float:
        """Return how many tasks a second were admitted lately."""
        return self._flow * exp((self._flow_at - now) / FLOW_SECONDS)


class Admission:
    """
    Decides by what the gateway already knows; it reads nothing, so it may be a little wrong.

    A request waits for those ahead of it, at the service rate of the live providers.
    """

    def __init__(self, catalogue: Catalogue, settings: Settings, clock: Clock) -> None:
        self._catalogue = catalogue
        self._depth_max = settings.queue_depth_max
        self._tenant_share = settings.tenant_share
        self._clock = clock
        #: By the model's hash.
        self._estimates: dict[tuple[str, Tier], QueueEstimate] = {}
        self._tenants: defaultdict[str, ActiveTenants] = defaultdict(lambda: ActiveTenants(clock))

    def effective_tier(self, model: Model, tier: Tier, tenant: str, tenant_open: int) -> Tier:
        """
        Return the effective tier of a request: the tier in whose queue it waits.

        ``tenant_open``: open requests of its tenant, this one included; 0 where not counted.
        """
        tenants = self._tenants[model.hash]
        tenants.note(tenant, tenant_open)
        most = self._tenant_share * (model.serving or NOBODY).slots
        if not self._tenant_share or tenant_open <= most:
            return tier
        effective = fairness.effective_tier(
            tier, tenant_open, fairness.share(most, tenants.largest())
        )
        for better in TIERS[TIERS.index(tier) : TIERS.index(effective)]:
            # What waits there goes before it, and it may be that nobody else has that looked up.
            self._catalogue.depth(self._estimate(model, better).queue)
        return effective

    async def admit(self, model: Model, tier: Tier, seconds: float) -> None:
        """Admit a request if it can be answered within ``seconds``. Raises QueueFull."""
        await self.check(model, tier, seconds)
        self._estimate(model, tier).add(self._clock.monotonic())

    async def check(self, model: Model, tier: Tier, seconds: float) -> None:
        """Check if it would be admitted. Raises QueueFull with the time to retry."""
        estimate = self._estimate(model, tier)
        reading = self._catalogue.depth(estimate.queue)
        if reading is None:
            return  # The queue was not read lately.
        pace = self._service_rate(model, tier)
        now = self._clock.monotonic()
        waiting = estimate.waiting(reading, pace, now)
        if waiting <= 0:
            return  # A slot is free.
        ahead = waiting + self._read(model.hash, TIERS[: TIERS.index(tier)])
        excess = waiting + 1 - self._depth_max
        if pace.rate:
            room = max(0.0, seconds - SERVICE_MARGIN * pace.service_seconds)
            excess = max(excess, ahead - room * pace.rate)
        if excess > 0:
            shrink = max(pace.rate - estimate.flow(now), SHRINK_SHARE * pace.rate)
            raise _refusal(model, ahead, excess / shrink if shrink else None)

    def _estimate(self, model: Model, tier: Tier) -> QueueEstimate:
        if (model.hash, tier) not in self._estimates:
            self._estimates[model.hash, tier] = QueueEstimate(model.queues[tier])
        return self._estimates[model.hash, tier]

    def _service_rate(self, model: Model, tier: Tier) -> ServiceRate:
        """Return the service rate of a model's tasks."""
        serving = model.serving or NOBODY
        tiers, rate = TIERS[: TIERS.index(tier) + 1], 0.0
        own = max(1, self._read(model.hash, tiers))
        for pool in serving.pools:
            rate += pool.rate_for(own, lambda rival: self._read(rival, tiers))
        return ServiceRate(serving.slots, rate, serving.service_seconds if rate else 0.0)

    def _read(self, model_hash: str, tiers: Sequence[Tier]) -> int:
        """Return how many of a model's tasks wait in some tiers, as last read; reads nothing."""
        estimates = (self._estimates.get((model_hash, tier)) for tier in tiers)
        readings = [self._catalogue.known_depth(each.queue) for each in estimates if each]
        return sum(reading.depth.waiting for reading in readings if reading is not None)


def _refusal(model: Model, ahead: float, seconds: float | None) -> QueueFull:
    return QueueFull(
        f"{ceil(ahead)} requests already wait for the model {base_name(model.id)!r}. "
        "Try again later.",
        retry_after_seconds=None if seconds is None else ceil(seconds),
    )
