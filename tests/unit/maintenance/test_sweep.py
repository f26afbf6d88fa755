"""The sweep ends what is overdue, makes declared models known and counts what waits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from inferline.errors import Unavailable
from inferline.fleet.aggregation import FleetAggregator
from inferline.fleet.registry import Model, ProviderRecord
from inferline.maintenance.sweep import TASKS_MAX, Sweep, SweepReport
from inferline.memory.minutes import MemoryMinutes
from inferline.memory.queue import MemoryQueue
from inferline.memory.registry import MemoryRegistry
from inferline.memory.tasks import MemoryStore
from inferline.names import dedicated_name, slug
from inferline.tasks.task import State, Task, Tier
from inferline.usage.minutes import MINUTE_MS, Minute
from tests.support.seams import new_task


@dataclass(slots=True)
class Clock:
    """Stands still until told."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class Broken:
    """A queue maker whose AWS does not answer."""

    async def make(self, model: str) -> Mapping[Tier, str]:
        raise Unavailable


@dataclass(slots=True)
class Place:
    """The stores that are swept, and ways to fill them."""

    clock: Clock = field(default_factory=Clock)
    store: MemoryStore = field(init=False)
    queue: MemoryQueue = field(init=False)
    registry: MemoryRegistry = field(init=False)
    minutes: MemoryMinutes = field(default_factory=MemoryMinutes)

    def __post_init__(self) -> None:
        self.store, self.queue = MemoryStore(self.clock), MemoryQueue(self.clock)
        self.registry = MemoryRegistry(self.clock)

    def sweep(self, *models: str, maker: Any = None) -> Sweep:
        return Sweep(
            store=self.store,
            registry=self.registry,
            queue_maker=maker or self.queue,
            minutes=self.minutes,
            models=models,
        )

    async def know(self, model: str) -> None:
        await self.registry.put_models([Model(id=model, queues=await self.queue.make(model))])

    async def serve(self, *models: str, provider: str = "p1", healthy: bool = True) -> None:
        fields = {"slots": 4, "running": 0, "healthy": healthy, "version": "1"}
        await self.registry.put_provider(ProviderRecord(id=provider, models=models, **fields))
        await FleetAggregator(self.registry, 0.0).aggregate_change()

    async def submit(self, model: str, *, seconds: float = 60) -> Task:
        task = new_task(self.store, model=model, seconds=seconds)
        await self.store.submit(task)
        return task


@pytest.fixture
def place() -> Place:
    return Place()


async def test_where_there_is_nothing_the_figures_are_none(place: Place) -> None:
    await place.know("m")

    assert SweepReport() == await place.sweep().run()


async def test_tasks_past_their_deadline_expire_and_others_stay(place: Place) -> None:
    await place.know("m")
    waiting, held = [await place.submit("m", seconds=10) for _ in range(2)]
    await place.store.claim(held.ref, "p1", 3600)
    later = await place.submit("m", seconds=100)
    place.clock.now = 20.0

    report = await place.sweep().run()

    states = await place.store.statuses([waiting.ref, held.ref, later.ref])
    assert [State.EXPIRED, State.EXPIRED, State.QUEUED] == [one.state for one in states.values()]
    assert (1, 0) == (report.waiting, report.running)


async def test_a_task_that_its_own_reader_is_about_to_end_is_left_to_it(place: Place) -> None:
    await place.know("m")
    task = await place.submit("m", seconds=10)
    place.clock.now = 12.0

    await place.sweep().run()

    assert {task.ref: (State.QUEUED, 0, 0)} == await place.store.statuses([task.ref])


async def test_one_run_is_bounded_and_the_next_goes_on(place: Place) -> None:
    await place.know("m")
    for _ in range(TASKS_MAX + 7):
        await place.submit("m", seconds=1)
    place.clock.now = 60.0
    sweep = place.sweep()

    await sweep.run()
    assert 7 == len(await place.store.live(slug("m"), TASKS_MAX))

    await sweep.run()
    assert [] == await place.store.live(slug("m"), TASKS_MAX)


async def test_it_counts_what_waits_and_runs_and_for_how_long(place: Place) -> None:
    for model in ("a", "b", "c"):
        await place.know(model)
    await place.serve("a", "c")
    first = await place.submit("a", seconds=600)
    await place.store.claim(first.ref, "p1", 3600)
    place.clock.now = 10.0
    await place.submit("a", seconds=600)
    await place.submit("b", seconds=700)
    place.clock.now = 30.0
    await place.submit("a", seconds=600)
    await place.serve("a", "c")

    assert (
        SweepReport(
            waiting=3, running=1, oldest_seconds=20.0, unserved=("b",), providers=1, slots=4
        )
        == await place.sweep().run()
    )


async def test_the_age_of_each_models_oldest_task_is_noted_in_its_minute(place: Place) -> None:
    for model in ("a", "b", "idle"):
        await place.know(model)
    await place.submit("a", seconds=600)
    place.clock.now = 10.0
    await place.submit("b", seconds=600)
    place.clock.now = 30.0

    await place.sweep().run()

    minute = place.store.now_ms() // MINUTE_MS
    minutes = {row.model: row for row in await place.minutes.since(minute)}
    assert {"a", "b"} == minutes.keys()
    ages = [minutes[name].metrics.percentile("age", 1.0) or 0 for name in "ab"]
    assert [30_000, 20_000] == pytest.approx(ages, rel=0.1)


async def test_what_is_reserved_is_noted_as_its_model(place: Place) -> None:
    name = dedicated_name("m", "acme")
    await place.know(name)
    await place.submit(name, seconds=600)

    await place.sweep().run()

    minute = place.store.now_ms() // MINUTE_MS
    assert {"m"} == {row.model for row in await place.minutes.since(minute)}


async def test_minutes_that_cannot_be_written_stop_no_sweep(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(row: Minute) -> None:
        raise Unavailable

    monkeypatch.setattr(place.minutes, "add", silent)
    await place.know("m")
    await place.submit("m")

    assert 1 == (await place.sweep().run()).waiting


async def test_a_sick_provider_serves_nobody(place: Place) -> None:
    await place.know("m")
    await place.serve("m", healthy=False)
    await place.submit("m")

    assert ("m",) == (await place.sweep().run()).unserved


async def test_declared_models_become_known_once_and_keep_what_is_told_of_them(
    place: Place,
) -> None:
    sweep = place.sweep("new", "known")
    known = Model(id="known", queues=await place.queue.make("known"), context_length=4096)
    await place.registry.put_models([known])

    await sweep.run()

    models = (await place.registry.snapshot()).models
    assert await place.queue.make("new") == models["new"].queues
    assert known == models["known"]
    place.clock.now = 60.0
    await sweep.run()
    assert models == (await place.registry.snapshot()).models


async def test_where_nobody_serves_models_are_counted_once(place: Place) -> None:
    sweep = place.sweep("new", "other")
    epochs = []
    for _ in range(4):
        await sweep.run()
        place.clock.now += 60.0
        fleet = await place.registry.fleet()
        epochs.append((fleet.epoch, fleet.models))

    assert [(0, 0), (1, 2), (1, 2), (1, 2)] == epochs


async def test_a_model_whose_queues_cant_be_made_does_not_stop_the_sweep(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    await place.know("m")
    await place.submit("m")

    report = await place.sweep("new", maker=Broken()).run()

    assert 1 == report.waiting
    assert "could not make the model new known: service_unavailable" in caplog.text


async def test_a_provider_that_falls_silent_is_told_of_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = place.sweep()
    await place.serve("m")
    await sweep.run()
    place.clock.now = 60.0

    with caplog.at_level(logging.WARNING):
        await sweep.run()
        await sweep.run()

    assert ["the provider p1 has fallen silent"] == caplog.messages
