"""
The sweep: periodic work on tasks and models that no request triggers.

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
from inferline.tasks.shard import is_shard_id
from inferline.tasks.store import TaskStore, Wanted
from inferline.tasks.task import State, TaskRef
from inferline.usage.minutes import MINUTE_MS, Minute, MinuteStore

log = logging.getLogger(__name__)

#: Live tasks of a model that are checked; a model with more is in deep trouble anyway.
TASKS_MAX: Final = 1000
#: Maximum age of the last aggregation, seconds; heartbeats trigger most aggregations.
AGGREGATE_SECONDS: Final = 60.0
#: Writes at the same time.
WRITES_MAX: Final = 25
#: How long past its deadline a task may be: those whose reader is there are ended by it.
GRACE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class SweepReport:
    """The counts of one sweep."""

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
    """The periodic maintenance of tasks and models."""

    store: TaskStore
    registry: Registry
    queue_maker: QueueMaker
    #: The store for the age of each model's oldest task; None: it is not stored.
    minutes: MinuteStore | None = None
    #: Models that are to be known before any provider enrols them.
    models: Sequence[str] = ()
    aggregator: FleetAggregator = field(init=False)

    def __post_init__(self) -> None:
        """Make an aggregator, for when no heartbeat comes any more."""
        self.aggregator = FleetAggregator(self.registry, AGGREGATE_SECONDS)

    async def run(self) -> SweepReport:
        """Sweep once. Raises Unavailable."""
        models, fleet = await self.registry.models(), await self.registry.fleet()
        await self._declare(models)
        if fleet.providers or fleet.models != len(models):
            await self.aggregator.aggregate_if_due()
            models, fleet = await self.registry.models(), await self.registry.fleet()
        live = await LiveTasks.read(self.store, len(models))
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
        """Add the declared models that are not known yet."""
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
        """Write how long each model's oldest task has waited to the present minute."""
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
        """End a model's overdue tasks and count the other requests."""
        tasks = await live.of_model(model.slug, TASKS_MAX)
        if not tasks:
            return _Backlog(model.id)
        late_ms = self.store.now_ms() - GRACE_SECONDS * 1000
        overdue = [ref for ref, deadline_ms in tasks if deadline_ms < late_ms]
        await self._expire(model, overdue)
        # The shards of batches can wait for hours, and are counted with their batches.
        requests = [ref for ref, _ in tasks[len(overdue) :] if not is_shard_id(ref.id)]
        states = await self.store.statuses(requests) if requests else {}
        waiting = [ref for ref, status in states.items() if status.state is State.QUEUED]
        running = sum(status.state is State.RUNNING for status in states.values())
        return _Backlog(model.id, len(waiting), running, await self._age(waiting, tasks))

    async def _expire(self, model: Model, overdue: Sequence[TaskRef]) -> None:
        expired = 0
        for start in range(0, len(overdue), WRITES_MAX):
            batch = overdue[start : start + WRITES_MAX]
            expired += sum(await asyncio.gather(*map(self.store.expire, batch)))
        if expired:
            log.info("ended %d overdue tasks of %s", expired, model.id)

    async def _age(self, waiting: Iterable[TaskRef], tasks: Tasks) -> float:
        """Return how long the waiting task with the earliest deadline has waited, seconds."""
        known = set(waiting)
        first = next((ref for ref, _ in tasks if ref in known), None)
        if first is None:
            return 0.0
        [row] = await self.store.read([Wanted(first)])
        return 0.0 if row.task is None else (self.store.now_ms() - row.task.created_ms) / 1000


def _unserved(backlogs: Iterable[_Backlog], models: Mapping[str, Model]) -> tuple[str, ...]:
    return tuple(b.model for b in backlogs if b.waiting and not models[b.model].is_served)
