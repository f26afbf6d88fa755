"""
The aggregation: writes down who serves each model, so that no request has to read any provider.

A heartbeat writes its provider's row and nothing else. The process that takes a heartbeat
aggregates if the last aggregation is old, or if the provider has changed what it offers: it reads
all providers once and writes what has changed to the rows of the models. Epochs order the
aggregations of all processes: an aggregation includes everything written before its epoch began,
and none overwrites a later one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from inferline.errors import Unavailable
from inferline.fleet.registry import (
    NOBODY,
    SILENT_SLACK,
    Fleet,
    Model,
    ProviderPool,
    ProviderRecord,
    Registry,
    Serving,
)
from inferline.fleet.speeds import speed_groups
from inferline.names import model_hash, slug

log = logging.getLogger(__name__)

#: Rows of providers that all aggregations together may read a second: the larger the fleet, the
#: rarer they are.
ROWS_A_SECOND: Final = 500
#: How long a change may wait for the next aggregation, seconds; else the next heartbeat brings it.
WAIT_SECONDS_MAX: Final = 1.0
#: Pools of a model; if there are more, the slowest are merged into one.
POOLS_MAX: Final = 8
#: Rivals that are kept of such a merged pool.
RIVALS_MAX: Final = 64
#: The share by which a speed must change to be written at once; rows are rewritten often enough.
CHANGED_SHARE: Final = 0.2

#: How long the row of a provider that is gone stays, seconds, and how many one aggregation removes.
#: The store would delete them, but days later, and every aggregation reads them.
FORGET_SECONDS: Final = 3600.0
FORGET_MAX: Final = 25

Sleep = Callable[[float], Awaitable[None]]

hash_of = lru_cache(maxsize=4096)(lambda model: model_hash(slug(model)))


class FleetAggregator:
    """The aggregation of the fleet, not too often. A failure is only logged."""

    def __init__(self, registry: Registry, seconds: float, sleep: Sleep = asyncio.sleep) -> None:
        """Aggregate when the last aggregation is more than ``seconds`` old."""
        self._registry = registry
        self._seconds = seconds
        self._sleep = sleep
        #: Before this moment of the store's clock no aggregation is due.
        self._due_ms = 0.0

    async def aggregate_if_due(self) -> None:
        """Aggregate if the last aggregation is old."""
        if self._registry.now_ms() < self._due_ms:
            return
        try:
            fleet = await self._registry.fleet()
            left = self._left(fleet, self._seconds)
            pause = left if left > 0 else self._seconds
            self._due_ms = self._registry.now_ms() + pause * 1000
            if left <= 0:
                await self._aggregate(fleet)
        except Unavailable:
            log.warning("could not aggregate the providers; another heartbeat tries again")

    async def aggregate_change(self) -> dict[str, Model] | None:
        """
        Aggregate after a change of the registry; return all models as aggregated.

        None if another process does it: its epoch began after the change, so that it includes it.
        """
        try:
            fleet = await self._registry.fleet()
            left = self._left(fleet, 0.0)
            if left > WAIT_SECONDS_MAX:
                return None
            if left > 0:
                await self._sleep(left)
            return await self._aggregate(fleet)
        except Unavailable:
            log.warning("could not aggregate a change; another heartbeat tries again")
            return None

    def _left(self, fleet: Fleet, seconds: float) -> float:
        """Return the seconds until the next aggregation may begin."""
        longest = self._registry.silent_seconds * SILENT_SLACK
        pause = min(longest, max(seconds, fleet.providers / ROWS_A_SECOND))
        return pause - (self._registry.now_ms() - fleet.aggregated_ms) / 1000

    async def _aggregate(self, fleet: Fleet) -> dict[str, Model] | None:
        """Aggregate unless another process has begun to since ``fleet`` was read."""
        begun = await self._registry.begin_epoch(fleet)
        if begun is None:
            return None
        snapshot = await self._registry.snapshot(consistent=True)
        live = snapshot.providers.values()
        servings, offered = aggregate(live), _offered(live)
        models = {
            name: replace(model, serving=servings.get(name) or self._unserved(model, offered))
            for name, model in snapshot.models.items()
        }
        await self._write_changed(begun.epoch, snapshot.models, models)
        slots = sum(provider.slots for provider in live)
        sums = replace(begun, models=len(models), providers=len(live), slots=slots)
        if sums != begun:
            await self._registry.put_fleet(sums)
        await self._forget(snapshot.silent, fleet)
        return models

    def _unserved(self, model: Model, offered: Mapping[str, int]) -> Serving:
        """
        Return a serving without providers, and since when; one of an earlier release counts from
        now on.
        """
        last_ms = model.serving.seen_ms if model.serving else 0
        seen_ms = max(last_ms, offered.get(model.id, 0)) or self._registry.now_ms()
        return replace(NOBODY, seen_ms=seen_ms)

    async def _write_changed(
        self, epoch: int, old: Mapping[str, Model], new: Mapping[str, Model]
    ) -> None:
        seconds = self._registry.silent_seconds
        changes = {
            name: serving
            for name, model in new.items()
            if (serving := model.serving) and changed(old[name].serving, serving, seconds)
        }
        await self._registry.put_servings(epoch, changes)

    async def _forget(self, silent: Sequence[ProviderRecord], last: Fleet) -> None:
        """
        Log the providers that have fallen silent since the last aggregation, and remove those
        silent for long.
        """
        live_ms = last.aggregated_ms - self._registry.silent_seconds * 1000
        forgotten_ms = self._registry.now_ms() - FORGET_SECONDS * 1000
        for provider in silent:
            if last.epoch and provider.seen_ms >= live_ms:
                log.warning("the provider %s has fallen silent", provider.id)
        forgotten = [p for p in silent if p.seen_ms < forgotten_ms and not p.quarantined_ms]
        for provider in forgotten[:FORGET_MAX]:
            await self._registry.remove_provider(provider.id, provider.seen_ms)


def aggregate(providers: Iterable[ProviderRecord]) -> dict[str, Serving]:
    """Return who serves each model that any provider serves."""
    by_model: dict[str, list[ProviderRecord]] = {}
    for provider in providers:
        for model in provider.models if provider.healthy else ():
            by_model.setdefault(model, []).append(provider)
    return {model: _serving(model, serving) for model, serving in by_model.items()}


def _offered(providers: Iterable[ProviderRecord]) -> dict[str, int]:
    """Return when a provider with each model was last heard of, healthy or not."""
    seen_ms: dict[str, int] = {}
    for provider in providers:
        for model in provider.models:
            seen_ms[model] = max(provider.seen_ms, seen_ms.get(model, 0))
    return seen_ms


def changed(old: Serving | None, new: Serving, silent_seconds: float) -> bool:
    """Return True if a row that says ``old`` should be written again."""
    if old is None or _exact(old) != _exact(new):
        return True
    return new.seen_ms - old.seen_ms > silent_seconds * SILENT_SLACK * 1000 or any(
        abs(before - now) > CHANGED_SHARE * max(before, now)
        for before, now in zip(_speeds(old), _speeds(new), strict=True)
    )


def _exact(serving: Serving) -> tuple[object, ...]:
    known = sum(group.providers for group in serving.speed_groups)
    rivals = [frozenset(pool.rivals) for pool in _ordered(serving)]
    return serving.providers, serving.slots, known, rivals


def _speeds(serving: Serving) -> list[float]:
    best = [group.speed for group in serving.speed_groups[:1]]
    fastest = [speed.tokens_per_second or 1 / speed.task_seconds for speed in best]
    return [serving.service_seconds, *fastest, *(pool.rate for pool in _ordered(serving))]


def _ordered(serving: Serving) -> list[ProviderPool]:
    return sorted(serving.pools, key=lambda pool: sorted(pool.rivals))


def _serving(model: str, providers: Sequence[ProviderRecord]) -> Serving:
    known = [p.service_seconds for p in providers if p.service_seconds > 0]
    mean = sum(known) / len(known) if known else 0.0
    return Serving(
        providers=len(providers),
        slots=sum(provider.slots for provider in providers),
        service_seconds=mean,
        pools=_pools(model, providers, mean) if mean else (),
        speed_groups=speed_groups(model, providers),
        seen_ms=max(provider.seen_ms for provider in providers),
    )


def _pools(
    model: str, providers: Sequence[ProviderRecord], mean: float
) -> tuple[ProviderPool, ...]:
    """
    Group the providers by what else they serve: within a group they are alike to a waiting task.

    A provider of s slots that takes t seconds for a task ends s/t of them a second. A new one is
    taken to be like the others.
    """
    rates: dict[frozenset[str], float] = {}
    for provider in providers:
        others = frozenset(provider.models) - {model}
        rate = provider.slots / (provider.service_seconds or mean)
        rates[others] = rates.get(others, 0.0) + rate
    fastest = sorted(rates, key=lambda others: (-rates[others], sorted(others)))
    apart = fastest if len(fastest) <= POOLS_MAX else fastest[: POOLS_MAX - 1]
    pools = [ProviderPool(rates[each], {hash_of(other): 1.0 for other in each}) for each in apart]
    rest = {others: rates[others] for others in fastest[len(apart) :]}
    return (*pools, _mixed(rest)) if rest else tuple(pools)


def _mixed(rates: Mapping[frozenset[str], float]) -> ProviderPool:
    """Merge several pools into one."""
    total = sum(rates.values())
    shares: dict[str, float] = {}
    for others, rate in rates.items():
        for other in others:
            shares[other] = shares.get(other, 0.0) + (rate / total if total else 0.0)
    most = sorted(shares, key=lambda other: (-shares[other], other))[:RIVALS_MAX]
    return ProviderPool(total, {hash_of(other): shares[other] for other in most})
