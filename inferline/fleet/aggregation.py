"""
The census: counts who serves each model, so that no request has to look at any provider.

A heartbeat writes its provider's row and nothing else. Whoever takes one and finds that the last
count is old, or that the provider has changed what it offers, counts: reads all providers once and
writes to the rows of the models what is new. Turns order the counts, however many processes there
are: a count includes all that was written before its turn began, and none overwrites a later one.
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
    Provider,
    ProviderPool,
    Registry,
    Serving,
)
from inferline.fleet.speeds import paces
from inferline.names import model_hash, slug

log = logging.getLogger(__name__)

#: How many rows of providers all counts together may read a second: the larger the fleet, the
#: rarer they are.
ROWS_A_SECOND: Final = 500
#: How long the news of a change may wait for its turn; else the next heartbeat brings it, seconds.
WAIT_SECONDS_MAX: Final = 1.0
#: How many pools of a model are told apart; the slowest go into one, as far as there are more.
POOLS_MAX: Final = 8
#: How many rivals of such a mixed pool are told.
RIVALS_MAX: Final = 64
#: By what share a speed has to change to be news by itself; a row is written anew often enough.
NEWS_SHARE: Final = 0.2

#: How long the row of a provider that is gone stays, seconds, and how many one count removes. The
#: store would do it, but days later, and every count reads them.
FORGET_SECONDS: Final = 3600.0
FORGET_MAX: Final = 25

Sleep = Callable[[float], Awaitable[None]]

mark_of = lru_cache(maxsize=4096)(lambda model: model_hash(slug(model)))


class FleetAggregator:
    """Sees to it that somebody counts, and not too often. A count that fails is only logged."""

    def __init__(self, registry: Registry, seconds: float, sleep: Sleep = asyncio.sleep) -> None:
        """``seconds``: how old a count may be before a heartbeat leads to another."""
        self._registry = registry
        self._seconds = seconds
        self._sleep = sleep
        #: Before this moment of the store's clock no count is due.
        self._look_ms = 0.0

    async def beat(self) -> None:
        """Count if the last count is old."""
        if self._registry.now_ms() < self._look_ms:
            return
        try:
            fleet = await self._registry.fleet()
            left = self._left(fleet, self._seconds)
            pause = left if left > 0 else self._seconds
            self._look_ms = self._registry.now_ms() + pause * 1000
            if left <= 0:
                await self._count(fleet)
        except Unavailable:
            log.warning("the providers could not be counted; another heartbeat leads to it")

    async def changed(self) -> dict[str, Model] | None:
        """
        Count because of a change that the registry has been told; gives all models as counted.

        None where it was not done here. Done elsewhere is as good: that began after the change.
        """
        try:
            fleet = await self._registry.fleet()
            left = self._left(fleet, 0.0)
            if left > WAIT_SECONDS_MAX:
                return None
            if left > 0:
                await self._sleep(left)
            return await self._count(fleet)
        except Unavailable:
            log.warning("a change could not be counted; another heartbeat leads to it")
            return None

    def _left(self, fleet: Fleet, seconds: float) -> float:
        """How long until the next count may be, seconds."""
        longest = self._registry.silent_seconds * SILENT_SLACK
        pause = min(longest, max(seconds, fleet.providers / ROWS_A_SECOND))
        return pause - (self._registry.now_ms() - fleet.counted_ms) / 1000

    async def _count(self, fleet: Fleet) -> dict[str, Model] | None:
        """Count unless somebody has begun to since ``fleet`` was read."""
        turn = await self._registry.begin_epoch(fleet)
        if turn is None:
            return None
        snapshot = await self._registry.snapshot(consistent=True)
        live = snapshot.providers.values()
        found, offered = counted(live), _offered(live)
        models = {
            name: replace(model, serving=found.get(name) or self._unserved(model, offered))
            for name, model in snapshot.models.items()
        }
        await self._write_news(turn.turn, snapshot.models, models)
        slots = sum(provider.slots for provider in live)
        sums = replace(turn, models=len(models), providers=len(live), slots=slots)
        if sums != turn:
            await self._registry.put_fleet(sums)
        await self._forget(snapshot.silent, fleet)
        return models

    def _unserved(self, model: Model, offered: Mapping[str, int]) -> Serving:
        """Nobody, and since when; those of an earlier release are counted from now on."""
        last_ms = model.serving.seen_ms if model.serving else 0
        seen_ms = max(last_ms, offered.get(model.id, 0)) or self._registry.now_ms()
        return replace(NOBODY, seen_ms=seen_ms)

    async def _write_news(
        self, turn: int, old: Mapping[str, Model], new: Mapping[str, Model]
    ) -> None:
        seconds = self._registry.silent_seconds
        news = {
            name: serving
            for name, model in new.items()
            if (serving := model.serving) and changed(old[name].serving, serving, seconds)
        }
        await self._registry.put_servings(turn, news)

    async def _forget(self, silent: Sequence[Provider], last: Fleet) -> None:
        """Log who was live at the last count, and remove who has been silent for long."""
        live_ms = last.counted_ms - self._registry.silent_seconds * 1000
        forgotten_ms = self._registry.now_ms() - FORGET_SECONDS * 1000
        for provider in silent:
            if last.turn and provider.seen_ms >= live_ms:
                log.warning("the provider %s is no longer heard of", provider.id)
        forgotten = [p for p in silent if p.seen_ms < forgotten_ms and not p.quarantined_ms]
        for provider in forgotten[:FORGET_MAX]:
            await self._registry.remove_provider(provider.id, provider.seen_ms)


def counted(providers: Iterable[Provider]) -> dict[str, Serving]:
    """Who serves each model that anybody serves."""
    found: dict[str, list[Provider]] = {}
    for provider in providers:
        for model in provider.models if provider.healthy else ():
            found.setdefault(model, []).append(provider)
    return {model: _serving(model, those) for model, those in found.items()}


def _offered(providers: Iterable[Provider]) -> dict[str, int]:
    """When somebody who has a model was last heard of, healthy or not, by model."""
    found: dict[str, int] = {}
    for provider in providers:
        for model in provider.models:
            found[model] = max(provider.seen_ms, found.get(model, 0))
    return found


def changed(old: Serving | None, new: Serving, silent_seconds: float) -> bool:
    """Whether a row that says ``old`` is to be written anew."""
    if old is None or _exact(old) != _exact(new):
        return True
    return new.seen_ms - old.seen_ms > silent_seconds * SILENT_SLACK * 1000 or any(
        abs(one - two) > NEWS_SHARE * max(one, two)
        for one, two in zip(_speeds(old), _speeds(new), strict=True)
    )


def _exact(serving: Serving) -> tuple[object, ...]:
    known = sum(pace.providers for pace in serving.paces)
    rivals = [frozenset(pool.rivals) for pool in _ordered(serving)]
    return serving.providers, serving.slots, known, rivals


def _speeds(serving: Serving) -> list[float]:
    best = [pace.speed for pace in serving.paces[:1]]
    fastest = [speed.tokens_per_second or 1 / speed.task_seconds for speed in best]
    return [serving.service_seconds, *fastest, *(pool.rate for pool in _ordered(serving))]


def _ordered(serving: Serving) -> list[ProviderPool]:
    return sorted(serving.pools, key=lambda pool: sorted(pool.rivals))


def _serving(model: str, providers: Sequence[Provider]) -> Serving:
    known = [p.service_seconds for p in providers if p.service_seconds > 0]
    mean = sum(known) / len(known) if known else 0.0
    return Serving(
        providers=len(providers),
        slots=sum(provider.slots for provider in providers),
        service_seconds=mean,
        pools=_pools(model, providers, mean) if mean else (),
        paces=paces(model, providers),
        seen_ms=max(provider.seen_ms for provider in providers),
    )


def _pools(model: str, providers: Sequence[Provider], mean: float) -> tuple[ProviderPool, ...]:
    """
    The providers by what else they serve: those of one pool are the same to who waits.

    A provider of s slots that takes t seconds for a task ends s/t of them a second. One that is new
    is taken to be like the others.
    """
    rates: dict[frozenset[str], float] = {}
    for provider in providers:
        others = frozenset(provider.models) - {model}
        rate = provider.slots / (provider.service_seconds or mean)
        rates[others] = rates.get(others, 0.0) + rate
    fastest = sorted(rates, key=lambda others: (-rates[others], sorted(others)))
    apart = fastest if len(fastest) <= POOLS_MAX else fastest[: POOLS_MAX - 1]
    pools = [ProviderPool(rates[each], {mark_of(other): 1.0 for other in each}) for each in apart]
    rest = {others: rates[others] for others in fastest[len(apart) :]}
    return (*pools, _mixed(rest)) if rest else tuple(pools)


def _mixed(rates: Mapping[frozenset[str], float]) -> ProviderPool:
    """One pool of several."""
    total = sum(rates.values())
    shares: dict[str, float] = {}
    for others, rate in rates.items():
        for other in others:
            shares[other] = shares.get(other, 0.0) + (rate / total if total else 0.0)
    most = sorted(shares, key=lambda other: (-shares[other], other))[:RIVALS_MAX]
    return ProviderPool(total, {mark_of(other): shares[other] for other in most})
