"""The overview: how everything does, in one read that any number of viewers share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request

from inferline import __version__
from inferline.accounts.caller import Caller
from inferline.fleet.aggregation import counted
from inferline.fleet.registry import NOBODY, Model, Serving
from inferline.gateway.catalogue import Cached, no_such_model
from inferline.gateway.errors import ERRORS
from inferline.gateway.parts import GatewayParts
from inferline.gateway.routes.access import ClientCaller
from inferline.gateway.routes.control import provider_objects, visible_to
from inferline.gateway.routes.objects import (
    FiguresObject,
    HourObject,
    MinuteObject,
    ModelFigures,
    OverviewObject,
    Percentiles,
    QueueList,
    QueueObject,
    QueueOverview,
)
from inferline.maintenance.live_tasks import LiveTasks
from inferline.tasks.store import Wanted
from inferline.tasks.task import Task, Tier
from inferline.usage.minutes import (
    MINUTE_MS,
    Measure,
    Minute,
    MinuteMetrics,
    MinuteStore,
    last_hour,
    total,
)
from inferline.validation.payload import MODEL_CHARS_MAX

#: How old an overview may be, seconds.
OVERVIEW_SECONDS: Final = 3.0
#: How many unfinished tasks of a model are looked at. Of more, SQS estimates how many there are.
TASKS_MAX: Final = 200
#: Gateways write a minute's figures up to so many minutes late; older ones are not read again.
LATE_MINUTES: Final = 2


@dataclass(frozen=True, slots=True)
class Look:
    """All that viewers share of one look."""

    told: OverviewObject
    models: frozenset[str]
    #: How many tasks of each tenant wait in each queue of ``told``.
    tenants: list[Counter[str]]
    #: The minutes of the last hour.
    rows: Sequence[Minute]
    now_ms: int


class Overview:
    """Makes the overview, and keeps it for a moment."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts
        self._hour = LastHour(parts.minutes)
        self._cached = Cached(self._look, parts.clock, OVERVIEW_SECONDS)

    async def get(self, caller: Caller) -> OverviewObject:
        """
        The overview of the models that are for a caller, no older than the limit.

        Sums are of all models. Raises Unavailable.
        """
        look = await self._cached.settled()
        queues = [
            queue.model_copy(update={"model": name, "yours": waiting[caller.tenant]})
            for queue, waiting in zip(look.told.queues, look.tenants, strict=True)
            if (name := caller.shown(queue.model))
        ]
        hour = look.told.hour
        models = [one for one in hour.models if not one.model or caller.may_use(one.model)]
        return look.told.model_copy(
            update={
                "queues": queues,
                "providers": visible_to(caller, look.told.providers),
                "hour": hour.model_copy(update={"models": models}),
            }
        )

    async def hour(self, model: str, caller: Caller) -> HourObject:
        """The last hour of one model, of the same look. Raises ModelNotFound or Unavailable."""
        look = await self._cached.settled()
        name = caller.registry_name(model)
        if name not in look.models or caller.shown(name) != model:
            raise no_such_model(model)
        return _hour([row for row in look.rows if row.model == model], look.now_ms, calls=False)

    async def _look(self) -> Look:
        parts = self._parts
        now_ms = parts.store.now_ms()
        snapshot = await parts.registry.snapshot()
        live = await LiveTasks.look(parts.store, len(snapshot.models))
        servings = counted(snapshot.providers.values())
        models = sorted(snapshot.models.values(), key=lambda model: model.id)
        found = await asyncio.gather(
            *(self._queues(model, servings.get(model.id, NOBODY), live) for model in models)
        )
        queues = [one for some in found for one in some]
        rows = await self._hour.rows(now_ms)
        told = OverviewObject(
            at=now_ms // 1000,
            version=__version__,
            silent_seconds=parts.settings.silent_seconds,
            queues=[queue for queue, _ in queues],
            providers=provider_objects(snapshot, now_ms),
            hour=_hour(rows, now_ms),
        )
        tenants = [waiting for _, waiting in queues]
        return Look(told, frozenset(snapshot.models), tenants, rows, now_ms)

    async def _queues(
        self, model: Model, serving: Serving, live: LiveTasks
    ) -> list[tuple[QueueOverview, Counter[str]]]:
        """Each queue of a model, and whose tasks wait in it."""
        standing = await self._standing(model, live)
        found = []
        for tier in model.queues:
            tenants = standing.tenants.get(tier, Counter())
            queue = QueueOverview(
                model=model.id,
                tier=tier,
                waiting=standing.waiting[tier],
                running=standing.running[tier],
                oldest_seconds=standing.oldest.get(tier),
                providers=serving.providers,
                slots=serving.slots,
                tenants=len(tenants),
                largest_share=_largest_share(tenants),
                yours=0,
            )
            found.append((queue, tenants))
        return found

    async def _standing(self, model: Model, tasks: LiveTasks) -> UnfinishedTasks:
        """What there is of a model's tasks; of one that has none nothing more is read."""
        parts = self._parts
        live = await tasks.of(model.slug, TASKS_MAX)
        if not live:
            return UnfinishedTasks()
        found = await parts.store.read([Wanted(ref) for ref, _ in live])
        standing = UnfinishedTasks.of((one.task for one in found if one.task), parts.store.now_ms())
        if len(live) == TASKS_MAX:
            for tier, url in model.queues.items():
                depth = await parts.catalogue.depth_now(url)
                standing.waiting[tier], standing.running[tier] = depth.waiting, depth.running
        return standing


@dataclass(frozen=True, slots=True)
class UnfinishedTasks:
    """A model's unfinished tasks, by tier; ``oldest`` is an age in seconds."""

    waiting: Counter[Tier] = field(default_factory=Counter)
    running: Counter[Tier] = field(default_factory=Counter)
    oldest: dict[Tier, float] = field(default_factory=dict)
    #: How many wait, by whose they are.
    tenants: dict[Tier, Counter[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, tasks: Iterable[Task], now_ms: int) -> UnfinishedTasks:
        """What ``tasks`` amount to. One whose lease has ended waits again."""
        found = cls()
        for task in tasks:
            if task.state.terminal:
                continue
            if not task.waits(now_ms):
                found.running[task.tier] += 1
                continue
            found.waiting[task.tier] += 1
            found.tenants.setdefault(task.tier, Counter())[task.tenant] += 1
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


def _largest_share(tenants: Counter[str]) -> float:
    waiting = tenants.total()
    return round(max(tenants.values()) / waiting, 3) if waiting else 0.0


def _hour(rows: Sequence[Minute], now_ms: int, *, calls: bool = True) -> HourObject:
    by_model: dict[str, list[Minute]] = {}
    hour = last_hour(now_ms)
    by_minute: dict[int, list[Minute]] = {number: [] for number in hour}
    for row in rows:
        by_model.setdefault(row.model, []).append(row)
        by_minute.setdefault(row.number, []).append(row)
    everything = total(rows)
    models = {name: total(found) for name, found in sorted(by_model.items())}
    return HourObject(
        total=FiguresObject(**_told(everything)),
        models=[ModelFigures(model=name, **_told(each)) for name, each in models.items()],
        minutes=[_minute(number, total(by_minute[number])) for number in hour],
        # They are told along with some model's requests, whichever came last.
        aws_calls=everything.calls if calls else {},
    )


def _minute(number: int, figures: MinuteMetrics) -> MinuteObject:
    oldest_ms = figures.percentile("age", 1.0)
    oldest = None if oldest_ms is None else round(oldest_ms / 1000, 1)
    start = number * MINUTE_MS // 1000
    return MinuteObject(start=start, oldest_seconds=oldest, **_told(figures))


def _told(figures: MinuteMetrics) -> dict[str, Any]:
    return {
        "requests": figures.requests,
        "errors": figures.errors,
        "answer_bytes": figures.answer_bytes,
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "first_token_ms": _percentiles(figures, "first"),
        "total_ms": _percentiles(figures, "total"),
        "queue_ms": _percentiles(figures, "queue"),
    }


def _percentiles(figures: MinuteMetrics, measure: Measure) -> Percentiles:
    p50, p95, p99 = (figures.percentile(measure, share) for share in (0.5, 0.95, 0.99))
    return Percentiles(p50=p50, p95=p95, p99=p99)


router = APIRouter(tags=["control"], responses=ERRORS)
_QUEUE: Final = set(QueueObject.model_fields)


@router.get("/overview", summary="Tell how everything does")
async def get_overview(request: Request, caller: ClientCaller) -> OverviewObject:
    """
    Each queue with what waits and runs and its oldest task, each live provider, and the last hour
    by minute, by model and in total, a few seconds old.
    """
    overview: Overview = request.app.overview
    return await overview.get(caller)


@router.get("/queue/stats", summary="How long the queues are")
async def get_queue_stats(request: Request, caller: ClientCaller) -> QueueList:
    """
    For each model and tier: tasks waiting and running, live providers and their slots, of the same
    look.
    """
    overview: Overview = request.app.overview
    told = (await overview.get(caller)).queues
    return QueueList(data=[QueueObject(**queue.model_dump(include=_QUEUE)) for queue in told])


@router.get("/overview/hour", summary="Tell of one model's last hour")
async def get_hour(
    request: Request,
    caller: ClientCaller,
    model: Annotated[str, Query(max_length=MODEL_CHARS_MAX)],
) -> HourObject:
    """
    The last hour of ``model`` alone by minute and in total, as old as the overview; calls to AWS
    are told for all models together only.
    """
    overview: Overview = request.app.overview
    return await overview.hour(model, caller)
