"""The overview: how everything does, in one read that any number of viewers share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import APIRouter, Request

from inferline import __version__
from inferline.gateway.catalogue import Cached
from inferline.gateway.control import Office, provider_object
from inferline.gateway.objects import (
    ERRORS,
    FiguresObject,
    HourObject,
    MinuteObject,
    ModelFigures,
    OverviewObject,
    Percentiles,
    QueueOverview,
)
from inferline.minutes import MINUTE_MS, Figures, Measure, Minute, MinuteStore, last_hour, total
from inferline.registry import Model, Snapshot
from inferline.store import Wanted
from inferline.task import State, Task, Tier

#: How old an overview may be, seconds.
OVERVIEW_SECONDS: Final = 3.0
#: How many unfinished tasks of a model are looked at. Of more, SQS estimates how many there are.
TASKS_MAX: Final = 200
#: Gateways write a minute's figures up to so many minutes late; older ones are not read again.
LATE_MINUTES: Final = 2


class Overview:
    """Makes the overview, and keeps it for a moment."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._hour = LastHour(office.minutes.store)
        self._cached = Cached(self._look, office.line.clock, OVERVIEW_SECONDS)

    async def get(self) -> OverviewObject:
        """The overview, no older than the limit. Raises Unavailable."""
        return await self._cached.settled()

    async def _look(self) -> OverviewObject:
        line = self._office.line
        now_ms = line.store.now_ms()
        snapshot = await line.catalogue.fresh()
        models = sorted(snapshot.models.values(), key=lambda model: model.id)
        queues = await asyncio.gather(*(self._queues(model, snapshot) for model in models))
        providers = (provider_object(one, now_ms) for one in snapshot.providers.values())
        return OverviewObject(
            at=now_ms // 1000,
            version=__version__,
            silent_seconds=line.settings.silent_seconds,
            queues=[queue for found in queues for queue in found],
            providers=sorted(providers, key=lambda provider: provider.id),
            hour=_hour(await self._hour.rows(now_ms), now_ms),
        )

    async def _queues(self, model: Model, snapshot: Snapshot) -> list[QueueOverview]:
        standing = await self._standing(model)
        serving = snapshot.serving(model.id)
        return [
            QueueOverview(
                model=model.id,
                tier=tier,
                waiting=standing.waiting[tier],
                running=standing.running[tier],
                oldest_seconds=standing.oldest.get(tier),
                providers=len(serving),
                slots=sum(provider.slots for provider in serving),
            )
            for tier in model.queues
        ]

    async def _standing(self, model: Model) -> Standing:
        """What there is of a model's tasks. One that has none costs a single read."""
        line = self._office.line
        live = await line.store.live(model.slug, TASKS_MAX)
        if not live:
            return Standing()
        found = await line.store.read([Wanted(ref) for ref, _ in live])
        standing = Standing.of((one.task for one in found if one.task), line.store.now_ms())
        if len(live) == TASKS_MAX:
            for tier, url in model.queues.items():
                depth = await line.catalogue.depth_now(url)
                standing.waiting[tier], standing.running[tier] = depth.waiting, depth.running
        return standing


@dataclass(frozen=True, slots=True)
class Standing:
    """A model's unfinished tasks, by tier; ``oldest`` is an age in seconds."""

    waiting: Counter[Tier] = field(default_factory=Counter)
    running: Counter[Tier] = field(default_factory=Counter)
    oldest: dict[Tier, float] = field(default_factory=dict)

    @classmethod
    def of(cls, tasks: Iterable[Task], now_ms: int) -> Standing:
        """What ``tasks`` amount to. One whose lease has ended waits again."""
        found = cls()
        for task in tasks:
            if task.state.terminal:
                continue
            if task.state is State.RUNNING and task.lease_ms > now_ms:
                found.running[task.tier] += 1
                continue
            found.waiting[task.tier] += 1
            age = round(max(0, now_ms - task.created_ms) / 1000, 1)
            found.oldest[task.tier] = max(age, found.oldest.get(task.tier, 0.0))
        return found


class LastHour:
    """The minutes of the last hour, of which only what may have changed is read again."""

    def __init__(self, store: MinuteStore) -> None:
        self._store = store
        self._rows: list[Minute] = []
        self._changing = 0

    async def rows(self, now_ms: int) -> list[Minute]:
        """All rows, oldest first. Raises Unavailable."""
        hour = last_hour(now_ms)
        since = max(hour[0], self._changing)
        news = await self._store.since(since)
        self._rows = [row for row in self._rows if hour[0] <= row.number < since] + news
        self._changing = hour[-1] - LATE_MINUTES
        return self._rows


def _hour(rows: Sequence[Minute], now_ms: int) -> HourObject:
    by_model: dict[str, list[Minute]] = {}
    by_minute: dict[int, list[Minute]] = {number: [] for number in last_hour(now_ms)}
    for row in rows:
        by_model.setdefault(row.model, []).append(row)
        by_minute.setdefault(row.number, []).append(row)
    everything = total(rows)
    models = {name: total(found) for name, found in sorted(by_model.items())}
    return HourObject(
        total=FiguresObject(**_told(everything)),
        models=[ModelFigures(model=name, **_told(each)) for name, each in models.items()],
        minutes=[
            MinuteObject(start=number * MINUTE_MS // 1000, **_told(total(by_minute[number])))
            for number in last_hour(now_ms)
        ],
        aws_calls=everything.calls,
    )


def _told(figures: Figures) -> dict[str, Any]:
    return {
        "requests": figures.requests,
        "errors": figures.errors,
        "answer_bytes": figures.answer_bytes,
        "first_token_ms": _percentiles(figures, "first"),
        "total_ms": _percentiles(figures, "total"),
        "queue_ms": _percentiles(figures, "queue"),
    }


def _percentiles(figures: Figures, measure: Measure) -> Percentiles:
    p50, p95, p99 = (figures.percentile(measure, share) for share in (0.5, 0.95, 0.99))
    return Percentiles(p50=p50, p95=p95, p99=p99)


router = APIRouter(tags=["control"], responses=ERRORS)


@router.get("/overview", summary="Tell how everything does")
async def get_overview(request: Request) -> OverviewObject:
    """
    Each queue with what waits and runs and its oldest task, each live provider, and the last hour
    by minute, by model and in total, a few seconds old.
    """
    overview: Overview = request.app.state.overview
    return await overview.get()
