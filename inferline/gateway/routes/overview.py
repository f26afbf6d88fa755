"""The overview: queues, providers and the last hour, read once for any number of viewers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request

from inferline import __version__
from inferline.accounts.caller import Caller
from inferline.fleet.aggregation import aggregate
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

#: How many unfinished tasks of a model are read. Beyond that, SQS estimates their number.
TASKS_MAX: Final = 200
#: Gateways write a minute's metrics up to so many minutes late; older ones are not read again.
LATE_MINUTES: Final = 2


@dataclass(frozen=True, slots=True)
class OverviewRead:
    """One read of everything, which all viewers share."""

    overview: OverviewObject
    models: frozenset[str]
    #: How many tasks of each tenant wait in each queue of ``overview``.
    tenants: list[Counter[str]]
    #: The minutes of the last hour.
    rows: Sequence[Minute]
    now_ms: int


class Overview:
    """Makes the overview, and keeps it for `OVERVIEW_SECONDS`."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts
        self._hour = LastHour(parts.minutes)
        self._cached = Cached(self._read, parts.clock, parts.settings.overview_seconds)

    async def get(self, caller: Caller) -> OverviewObject:
        """
        Return the overview of the models that a caller may use, no older than the limit.

        The sums are of all models. Raises Unavailable.
        """
        read = await self._cached.settled()
        queues = [
            queue.model_copy(update={"model": name, "yours": waiting[caller.tenant]})
            for queue, waiting in zip(read.overview.queues, read.tenants, strict=True)
            if (name := caller.visible_name(queue.model))
        ]
        hour = read.overview.hour
        models = [one for one in hour.models if not one.model or caller.may_use(one.model)]
        return read.overview.model_copy(
            update={
                "queues": queues,
                "providers": visible_to(caller, read.overview.providers),
                "hour": hour.model_copy(update={"models": models}),
            }
        )

    async def hour(self, model: str, caller: Caller) -> HourObject:
        """Return the last hour of one model. Raises ModelNotFound or Unavailable."""
        read = await self._cached.settled()
        name = caller.registry_name(model)
        if name not in read.models or caller.visible_name(name) != model:
            raise no_such_model(model)
        return _hour([row for row in read.rows if row.model == model], read.now_ms, calls=False)

    async def _read(self) -> OverviewRead:
        parts = self._parts
        now_ms = parts.store.now_ms()
        snapshot = await parts.registry.snapshot()
        live = await LiveTasks.read(parts.store, len(snapshot.models))
        servings = aggregate(snapshot.providers.values())
        models = sorted(snapshot.models.values(), key=lambda model: model.id)
        by_model = await asyncio.gather(
            *(self._queues(model, servings.get(model.id, NOBODY), live) for model in models)
        )
        queues = [queue for of_model in by_model for queue in of_model]
        rows = await self._hour.rows(now_ms)
        overview = OverviewObject(
            at=now_ms // 1000,
            version=__version__,
            silent_seconds=parts.settings.silent_seconds,
            queues=[queue for queue, _ in queues],
            providers=provider_objects(snapshot, now_ms),
            hour=_hour(rows, now_ms),
        )
        tenants = [waiting for _, waiting in queues]
        return OverviewRead(overview, frozenset(snapshot.models), tenants, rows, now_ms)

    async def _queues(
        self, model: Model, serving: Serving, live: LiveTasks
    ) -> list[tuple[QueueOverview, Counter[str]]]:
        """Return each queue of a model with the number of waiting tasks per tenant."""
        standing = await self._standing(model, live)
        overviews = []
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
            overviews.append((queue, tenants))
        return overviews

    async def _standing(self, model: Model, tasks: LiveTasks) -> UnfinishedTasks:
        """Count a model's tasks; a model without any costs no further read."""
        parts = self._parts
        live = await tasks.of_model(model.slug, TASKS_MAX)
        if not live:
            return UnfinishedTasks()
        rows = await parts.store.read([Wanted(ref) for ref, _ in live])
        standing = UnfinishedTasks.of((row.task for row in rows if row.task), parts.store.now_ms())
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
    #: How many wait, by tenant.
    tenants: dict[Tier, Counter[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, tasks: Iterable[Task], now_ms: int) -> UnfinishedTasks:
        """Count ``tasks``. One whose lease has expired waits again."""
        unfinished = cls()
        for task in tasks:
            if task.state.terminal:
                continue
            if not task.waits(now_ms):
                unfinished.running[task.tier] += 1
                continue
            unfinished.waiting[task.tier] += 1
            unfinished.tenants.setdefault(task.tier, Counter())[task.tenant] += 1
            age = round(max(0, now_ms - task.created_ms) / 1000, 1)
            unfinished.oldest[task.tier] = max(age, unfinished.oldest.get(task.tier, 0.0))
        return unfinished


class LastHour:
    """The minutes of the last hour; only those that may have changed are read again."""

    def __init__(self, store: MinuteStore) -> None:
        self._store = store
        self._rows: list[Minute] = []
        self._changing = 0

    async def rows(self, now_ms: int) -> list[Minute]:
        """Return all rows, oldest first. Raises Unavailable."""
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
    models = {name: total(minutes) for name, minutes in sorted(by_model.items())}
    return HourObject(
        total=FiguresObject(**_metrics(everything)),
        models=[ModelFigures(model=name, **_metrics(each)) for name, each in models.items()],
        minutes=[_minute(number, total(by_minute[number])) for number in hour],
        # They are recorded with the requests of any model.
        aws_calls=everything.calls if calls else {},
    )


def _minute(number: int, metrics: MinuteMetrics) -> MinuteObject:
    oldest_ms = metrics.percentile("age", 1.0)
    oldest = None if oldest_ms is None else round(oldest_ms / 1000, 1)
    start = number * MINUTE_MS // 1000
    return MinuteObject(start=start, oldest_seconds=oldest, **_metrics(metrics))


def _metrics(metrics: MinuteMetrics) -> dict[str, Any]:
    return {
        "requests": metrics.requests,
        "errors": metrics.errors,
        "answer_bytes": metrics.answer_bytes,
        "input_tokens": metrics.input_tokens,
        "output_tokens": metrics.output_tokens,
        "first_token_ms": _percentiles(metrics, "first"),
        "total_ms": _percentiles(metrics, "total"),
        "queue_ms": _percentiles(metrics, "queue"),
    }


def _percentiles(metrics: MinuteMetrics, measure: Measure) -> Percentiles:
    p50, p95, p99 = (metrics.percentile(measure, share) for share in (0.5, 0.95, 0.99))
    return Percentiles(p50=p50, p95=p95, p99=p99)


router = APIRouter(tags=["control"], responses=ERRORS)
_QUEUE: Final = set(QueueObject.model_fields)


@router.get("/overview", summary="Get the overview")
async def get_overview(request: Request, caller: ClientCaller) -> OverviewObject:
    """
    Return each queue with its waiting and running tasks and the age of the oldest, each live
    provider, and the last hour by minute, by model and in total, all a few seconds old.
    """
    overview: Overview = request.app.overview
    return await overview.get(caller)


@router.get("/queue/stats", summary="Get the queues' lengths")
async def get_queue_stats(request: Request, caller: ClientCaller) -> QueueList:
    """
    Return for each model and tier the tasks waiting and running, and the live providers and their
    slots, as old as the overview.
    """
    overview: Overview = request.app.overview
    queues = (await overview.get(caller)).queues
    return QueueList(data=[QueueObject(**queue.model_dump(include=_QUEUE)) for queue in queues])


@router.get("/overview/hour", summary="Get a model's last hour")
async def get_hour(
    request: Request,
    caller: ClientCaller,
    model: Annotated[str, Query(max_length=MODEL_CHARS_MAX)],
) -> HourObject:
    """
    Return the last hour of ``model`` by minute and in total, as old as the overview. Calls to AWS
    are counted for all models together only.
    """
    overview: Overview = request.app.overview
    return await overview.hour(model, caller)
