"""
The sweep: what has to be done now and then, by somebody, because no request comes that would do it.

It costs next to nothing when there is nothing to do. All of it may be done twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from inferline.errors import InferLineError
from inferline.fleet.aggregation import FleetAggregator
from inferline.fleet.registry import Model, QueueMaker, Registry
from inferline.maintenance.live_tasks import LiveTasks, Tasks
from inferline.names import base_name
from inferline.tasks.store import TaskStore, Wanted
from inferline.tasks.task import State, TaskRef
from inferline.usage.minutes import MINUTE_MS, Minute, MinuteStore

log = logging.getLogger(__name__)

#: How many live tasks of a model are looked at; a model that has more is deep in trouble anyway.
TASKS_MAX: Final = 1000
#: How old the last count of the providers may be, seconds; their heartbeats lead to it mostly.
COUNT_SECONDS: Final = 60.0
#: How many writes are under way at a time.
WRITES_MAX: Final = 25
#: How long past its deadline a task may be: those whose reader is there are ended by it.
GRACE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What the sweep counted."""

    waiting: int = 0
    running: int = 0
    #: How long the waiting task with the earliest deadline of any model has waited; 0 for none.
    oldest_seconds: float = 0.0
    #: Models with tasks and no live provider.
    unserved: tuple[str, ...] = ()
    providers: int = 0
    slots: int = 0


@dataclass(frozen=True, slots=True)
class _Backlog:
    """The live tasks of one model."""

    model: str
    waiting: int = 0
    running: int = 0
    oldest_seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class Sweep:
    """What is swept."""

    store: TaskStore
    registry: Registry
    queue_maker: QueueMaker
    #: Where the age of each model's oldest task is noted; None: nowhere.
    minutes: MinuteStore | None = None
    #: Models that are to be known before any provider enrols them.
    models: Sequence[str] = ()
    census: FleetAggregator = field(init=False)

    def __post_init__(self) -> None:
        """Have a census, for when no heartbeat leads to one any more."""
        self.census = FleetAggregator(self.registry, COUNT_SECONDS)

    async def run(self) -> SweepReport:
        """One sweep. Raises Unavailable."""
        models, fleet = await self.registry.models(), await self.registry.fleet()
        await self._declare(models)
        if fleet.providers or fleet.models != len(models):
            await self.census.beat()
            models, fleet = await self.registry.models(), await self.registry.fleet()
        live = await LiveTasks.look(self.store, len(models))
        backlogs = [await self._sweep(model, live) for model in models.values()]
        await self._note_ages(backlogs)
        return SweepReport(
            waiting=sum(backlog.waiting for backlog in backlogs),
            running=sum(backlog.running for backlog in backlogs),
            oldest_seconds=max((b.oldest_seconds for b in backlogs), default=0.0),
            unserved=_unserved(backlogs, models),
            providers=fleet.providers,
            slots=fleet.slots,
        )

    async def _declare(self, known: Mapping[str, Model]) -> None:
        """Make the declared models known that are not yet."""
        for name in self.models:
            if name in known:
                continue
            try:
                queues = await self.queue_maker.make(name)
                created = self.store.now_ms() // 1000
                await self.registry.put_models([Model(id=name, queues=queues, created=created)])
                log.info("the model %s is known", name)
            except InferLineError as error:
                log.warning("could not make the model %s known: %s", name, error.code)

    async def _note_ages(self, backlogs: Iterable[_Backlog]) -> None:
        """Tell the present minute how long each model's oldest task has waited."""
        if self.minutes is None:
            return
        number = self.store.now_ms() // MINUTE_MS
        for backlog in backlogs:
            if not backlog.waiting:
                continue
            age_ms = round(backlog.oldest_seconds * 1000)
            try:
                await self.minutes.add(Minute.of_age(number, base_name(backlog.model), age_ms))
            except InferLineError as error:
                log.warning("could not note a queue's age: %s", error.code)

    async def _sweep(self, model: Model, live: LiveTasks) -> _Backlog:
        """End what is overdue of a model, and count the rest."""
        found = await live.of(model.slug, TASKS_MAX)
        if not found:
            return _Backlog(model.id)
        late_ms = self.store.now_ms() - GRACE_SECONDS * 1000
        overdue = [ref for ref, deadline_ms in found if deadline_ms < late_ms]
        await self._expire(model, overdue)
        states = await self.store.statuses([ref for ref, _ in found[len(overdue) :]])
        waiting = [ref for ref, one in states.items() if one.state is State.QUEUED]
        running = sum(one.state is State.RUNNING for one in states.values())
        return _Backlog(model.id, len(waiting), running, await self._age(waiting, found))

    async def _expire(self, model: Model, overdue: Sequence[TaskRef]) -> None:
        expired = 0
        for start in range(0, len(overdue), WRITES_MAX):
            some = overdue[start : start + WRITES_MAX]
            expired += sum(await asyncio.gather(*map(self.store.expire, some)))
        if expired:
            log.info("ended %d overdue tasks of %s", expired, model.id)

    async def _age(self, waiting: Iterable[TaskRef], found: Tasks) -> float:
        """How long the waiting task with the earliest deadline has waited, seconds."""
        known = set(waiting)
        first = next((ref for ref, _ in found if ref in known), None)
        if first is None:
            return 0.0
        [row] = await self.store.read([Wanted(first)])
        return 0.0 if row.task is None else (self.store.now_ms() - row.task.created_ms) / 1000


def _unserved(backlogs: Iterable[_Backlog], models: Mapping[str, Model]) -> tuple[str, ...]:
    return tuple(b.model for b in backlogs if b.waiting and not models[b.model].is_served)
