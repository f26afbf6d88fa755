"""Admission: finds a request its lane, and refuses at once what that could not answer in time."""

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

#: How much of its time a request must have left for the backend, in mean times that one takes
#: there: a quarter is for what nobody can know. `python -m bench overload` shows what that gives.
SERVICE_MARGIN: Final = 1.25
#: Over how long the flow of requests is averaged, seconds.
FLOW_SECONDS: Final = 10.0
#: A queue into which as much flows as out of it is taken to shrink at this share of its pace.
SHRINK_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class ServiceRate:
    """How fast a model's live providers end its tasks."""

    slots: int
    #: Tasks a second, and the mean time that one takes at the backend; 0 while nobody knows.
    rate: float = 0.0
    service_seconds: float = 0.0


class QueueEstimate:
    """
    How many tasks wait in a queue: as last read, and carried on from there.

    What was let in since is added, what must have been ended is taken off. Below 0 there are as
    many free slots.
    """

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self._reading: DepthReading | None = None
        self._count = self._at = 0.0
        self._flow = self._flow_at = 0.0

    def waiting(self, reading: DepthReading, pace: ServiceRate, now: float) -> float:
        """How many wait now, which is not before ``reading``."""
        if self._reading is not reading:
            self._reading, self._at = reading, reading.at
            free = max(0, pace.slots - reading.depth.running)
            self._count = reading.depth.waiting or -free
        ended = (now - self._at) * pace.rate
        self._count, self._at = max(-pace.slots, self._count - ended), now
        return self._count

    def add(self, now: float) -> None:
        """Count a task that is let in."""
        self._count += 1
        self._flow, self._flow_at = self.flow(now) + 1 / FLOW_SECONDS, now

    def flow(self, now: float) -> float:
        """How many tasks a second were let in lately."""
        return self._flow * exp((self._flow_at - now) / FLOW_SECONDS)


class Admission:
    """
    Decides by what the gateway has at hand; it asks nobody, so it may be a little wrong.

    A request waits for those ahead of it, at the pace of the live providers.
    """

    def __init__(self, catalogue: Catalogue, settings: Settings, clock: Clock) -> None:
        self._catalogue = catalogue
        self._depth_max = settings.queue_depth_max
        self._tenant_share = settings.tenant_share
        self._clock = clock
        #: By the model's mark.
        self._levels: dict[tuple[str, Tier], QueueEstimate] = {}
        self._crowds: defaultdict[str, ActiveTenants] = defaultdict(lambda: ActiveTenants(clock))

    def lane(self, model: Model, tier: Tier, tenant: str, tenant_open: int) -> Tier:
        """
        The tier in whose queue a request is to wait, of whose tenant so many are open with it.

        0 is for a tenant whose requests nobody counts.
        """
        crowd = self._crowds[model.hash]
        crowd.note(tenant, tenant_open)
        most = self._tenant_share * (model.serving or NOBODY).slots
        if not self._tenant_share or tenant_open <= most:
            return tier
        found = fairness.lane(tier, tenant_open, fairness.share(most, crowd.largest()))
        for better in TIERS[TIERS.index(tier) : TIERS.index(found)]:
            # What waits there goes before it, and it may be that nobody else has that looked up.
            self._catalogue.depth(self._level(model, better).queue)
        return found

    async def admit(self, model: Model, lane: Tier, seconds: float) -> None:
        """Let a request in if it can be answered within ``seconds``. Raises QueueFull."""
        await self.look(model, lane, seconds)
        self._level(model, lane).add(self._clock.monotonic())

    async def look(self, model: Model, lane: Tier, seconds: float) -> None:
        """Say whether it would be let in. Raises QueueFull, which tells from when on."""
        level = self._level(model, lane)
        reading = self._catalogue.depth(level.queue)
        if reading is None:
            return  # Nobody has asked here lately.
        pace = self._pace(model, lane)
        now = self._clock.monotonic()
        waiting = level.waiting(reading, pace, now)
        if waiting <= 0:
            return  # There is a slot, and nothing better to do with it.
        ahead = waiting + self._read(model.hash, TIERS[: TIERS.index(lane)])
        excess = waiting + 1 - self._depth_max
        if pace.rate:
            room = max(0.0, seconds - SERVICE_MARGIN * pace.service_seconds)
            excess = max(excess, ahead - room * pace.rate)
        if excess > 0:
            shrink = max(pace.rate - level.flow(now), SHRINK_SHARE * pace.rate)
            raise _refusal(model, ahead, excess / shrink if shrink else None)

    def _level(self, model: Model, tier: Tier) -> QueueEstimate:
        if (model.hash, tier) not in self._levels:
            self._levels[model.hash, tier] = QueueEstimate(model.queues[tier])
        return self._levels[model.hash, tier]

    def _pace(self, model: Model, tier: Tier) -> ServiceRate:
        """How fast the model's tasks end."""
        serving = model.serving or NOBODY
        tiers, rate = TIERS[: TIERS.index(tier) + 1], 0.0
        own = max(1, self._read(model.hash, tiers))
        for pool in serving.pools:
            rate += pool.rate_for(own, lambda rival: self._read(rival, tiers))
        return ServiceRate(serving.slots, rate, serving.service_seconds if rate else 0.0)

    def _read(self, mark: str, tiers: Sequence[Tier]) -> int:
        """How many of a model's tasks wait in these tiers, as last read; nothing is read now."""
        levels = [self._levels[mark, tier] for tier in tiers if (mark, tier) in self._levels]
        readings = [self._catalogue.known_depth(level.queue) for level in levels]
        return sum(reading.depth.waiting for reading in readings if reading is not None)


def _refusal(model: Model, ahead: float, seconds: float | None) -> QueueFull:
    return QueueFull(
        f"{ceil(ahead)} requests already wait for the model {base_name(model.id)!r}. "
        "Try again later.",
        retry_after_seconds=None if seconds is None else ceil(seconds),
    )
