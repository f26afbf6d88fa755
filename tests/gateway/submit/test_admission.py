"""Who is let in: whom the line can answer in time, as far as the gateway can know."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from inferline.errors import QueueFull
from inferline.fleet.aggregation import FleetAggregator
from inferline.fleet.registry import Model, ProviderRecord
from inferline.gateway.catalogue import DEPTH_SECONDS, Catalogue
from inferline.gateway.submit.active_tenants import AWAY_SECONDS
from inferline.gateway.submit.admission import Admission
from inferline.memory.queue import MemoryQueue
from inferline.memory.registry import MemoryRegistry
from inferline.names import dedicated_name
from inferline.settings import Settings
from inferline.tasks.queue import Depth
from inferline.tasks.task import Tier
from tests.support.clocks import StandingClock


class Queues(MemoryQueue):
    """Queues that are as deep as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, Depth] = {}
        self.asked: list[str] = []

    async def depth(self, queue: str) -> Depth:
        self.asked.append(queue)
        return self.told.get(queue, Depth(0, 0))


class Door:
    """An admission, and what it may know."""

    def __init__(self, **settings: Any) -> None:
        self.clock, self.queues = StandingClock(), Queues()
        self.registry = MemoryRegistry(self.clock)
        self.catalogue = Catalogue(self.registry, self.queues, self.clock, 1.0)
        self.admission = Admission(self.catalogue, Settings(**settings), self.clock)
        self.models: dict[str, Model] = {}

    async def serve(self, name: str, *models: str, slots: int = 4, seconds: float = 2.0) -> None:
        """Have a provider that takes so long for a task."""
        for model in models:
            self.models[model] = Model(id=model, queues=await self.queues.make(model))
        await self.registry.put_models([self.models[model] for model in models])
        told = ProviderRecord(
            id=name,
            models=models,
            slots=slots,
            running=0,
            healthy=True,
            version="1",
            service_seconds=seconds,
        )
        await self.registry.put_provider(told)
        await self.count()

    async def count(self) -> None:
        """Have the gateway know who serves."""
        await FleetAggregator(self.registry, 0.0).aggregate_change()
        self.catalogue.changed()
        self.models = dict(await self.registry.models())

    async def see(self, waiting: int, running: int = 4, *, model: str = "m", **of: Tier) -> None:
        """Have the gateway read how deep a queue is."""
        queue = self.models[model].queues[of.get("tier", "default")]
        self.queues.told[queue] = Depth(waiting, running)
        await self.catalogue._depth(queue).fresh()
        # As the requests did for which it was read.
        self.admission._estimate(self.models[model], of.get("tier", "default"))

    async def admits(self, seconds: float, *, tier: Tier = "default", model: str = "m") -> bool:
        """Ask for admission."""
        try:
            await self.admission.admit(self.models[model], tier, seconds)
        except QueueFull:
            return False
        return True

    def lane(self, tenant_open: int, tier: Tier = "default", tenant: str = "t") -> Tier:
        """Where a request waits of whose tenant so many are open."""
        return self.admission.effective_tier(self.models["m"], tier, tenant, tenant_open)

    async def refusal(self, seconds: float) -> Mapping[str, str]:
        """The headers of a refusal."""
        with pytest.raises(QueueFull) as refused:
            await self.admission.check(self.models["m"], "default", seconds)
        return refused.value.headers()


@pytest.fixture
async def door() -> Door:
    """One provider for the model m that ends two tasks a second."""
    made = Door(queue_depth_max=100)
    await made.serve("p", "m")
    return made


async def test_a_refusal_calls_a_reserved_model_what_its_tenant_calls_it() -> None:
    door, name = Door(queue_depth_max=1), dedicated_name("m", "acme")
    await door.serve("p", name)
    await door.see(5, model=name)

    with pytest.raises(QueueFull, match="the model 'm'"):
        await door.admission.check(door.models[name], "default", 1.0)


async def test_nobody_is_refused_before_the_queue_is_known(door: Door) -> None:
    door.queues.told[door.models["m"].queues["default"]] = Depth(99, 4)

    assert await door.admits(0.1)


async def test_a_line_that_nobody_waits_in_takes_everybody(door: Door) -> None:
    await door.see(0)

    assert await door.admits(0.1)


async def test_a_request_needs_time_for_its_wait_and_a_quarter_more_than_the_mean(
    door: Door,
) -> None:
    await door.see(20)

    assert not await door.admits(12.4)
    assert await door.admits(12.6)


async def test_what_was_let_in_since_the_reading_waits_ahead(door: Door) -> None:
    await door.see(20)

    assert [True, True, False] == [await door.admits(13.4) for _ in range(3)]


async def test_what_must_have_ended_since_the_reading_does_not_wait(door: Door) -> None:
    await door.see(20)
    door.clock.now += 1.0

    assert not await door.admits(11.4)
    assert await door.admits(11.6)


async def test_free_slots_are_filled_before_anybody_waits(door: Door) -> None:
    await door.see(0, running=1)

    assert [True] * 4 + [False] == [await door.admits(0.1) for _ in range(5)]


async def test_while_nobody_knows_how_long_a_task_takes_the_queue_may_fill() -> None:
    door = Door(queue_depth_max=30)
    await door.serve("p", "m", seconds=0.0)
    await door.see(28)

    assert [True, True, False] == [await door.admits(0.1) for _ in range(3)]
    assert {"retry-after": "5"} == await door.refusal(600.0)


async def test_a_queue_without_a_provider_may_fill() -> None:
    door = Door(queue_depth_max=30)
    await door.serve("p", "m")
    await door.registry.remove_provider("p")
    await door.count()
    await door.see(28, 0)

    assert [True, True, False] == [await door.admits(0.1) for _ in range(3)]


async def test_the_queue_never_grows_beyond_its_limit(door: Door) -> None:
    await door.see(99)

    assert [True, False] == [await door.admits(1e6) for _ in range(2)]


async def test_a_new_provider_is_taken_to_be_like_the_others(door: Door) -> None:
    await door.serve("q", "m", slots=12, seconds=0.0)
    await door.see(80, 16)

    assert not await door.admits(12.4)
    assert await door.admits(12.6)


async def test_a_better_tier_goes_first(door: Door) -> None:
    await door.see(10, tier="priority")
    await door.see(20)

    assert not await door.admits(17.4)
    assert await door.admits(17.6)
    assert await door.admits(7.6, tier="priority")


async def test_the_models_of_a_provider_share_it() -> None:
    door = Door(queue_depth_max=100)
    await door.serve("p", "m", "n")
    await door.see(10)
    await door.see(30, model="n")

    assert not await door.admits(22.4)
    assert await door.admits(22.6)


async def test_a_refused_request_is_let_in_when_it_was_told() -> None:
    door = Door(queue_depth_max=1000)
    await door.serve("p", "m")
    for waiting in (30, 60, 90):
        await door.see(waiting)
        seconds = int((await door.refusal(15.0))["retry-after"])
        door.clock.now += seconds
        await door.see(waiting - 2 * seconds)

        assert await door.admits(15.0)


async def test_the_date_is_later_while_as_much_flows_in_as_out(door: Door) -> None:
    await door.see(30)
    calm = int((await door.refusal(15.0))["retry-after"])
    for _ in range(60):
        door.clock.now += 0.5
        await door.admits(60.0)

    assert 3 == calm
    assert 25 <= int((await door.refusal(15.0))["retry-after"]) <= 30


@pytest.mark.parametrize("waiting", [1, 20, 99, 100, 100_000])
@pytest.mark.parametrize("seconds", [0.001, 1.0, 2.5])
async def test_a_refusal_tells_a_date_that_sdks_honour(
    door: Door, waiting: int, seconds: float
) -> None:
    await door.see(waiting)

    assert 1 <= int((await door.refusal(seconds))["retry-after"]) <= 60


async def test_deciding_reads_no_other_queue_and_this_one_no_more_often(door: Door) -> None:
    await door.see(20)
    for _ in range(100):
        await door.admits(60.0)
    door.clock.now += DEPTH_SECONDS + 0.1
    for _ in range(100):
        await door.admits(60.0)
        await asyncio.sleep(0)

    assert 2 == len(door.queues.asked)
    assert 1 == len(set(door.queues.asked))


async def test_who_has_no_more_open_than_there_are_slots_waits_in_its_tier_and_nothing_is_read(
    door: Door,
) -> None:
    assert {"default"} == {door.lane(count) for count in range(5)}
    await asyncio.sleep(0)
    assert [] == door.queues.asked


async def test_who_has_more_open_gives_way(door: Door) -> None:
    await door.see(0)
    await door.see(0, 0, tier="flex")

    assert ["default", "flex"] == [door.lane(count) for count in (4, 5)]
    assert ["priority", "flex"] == [door.lane(n, "priority") for n in (4, 5)]
    assert "flex" == door.lane(99, "flex")


async def test_who_has_little_beside_the_largest_does_not_give_way(door: Door) -> None:
    door.lane(200, tenant="large")

    assert ["default", "flex"] == [door.lane(count) for count in (100, 101)]


async def test_however_many_are_large_all_of_them_give_way(door: Door) -> None:
    large = [door.lane(120, tenant=f"large {number}") for number in range(10)]

    assert {"flex"} == set(large)
    assert "default" == door.lane(60)


async def test_who_has_left_makes_nobody_small(door: Door) -> None:
    door.lane(200, tenant="large")
    door.clock.now += AWAY_SECONDS + 1

    assert ["default", "flex"] == [door.lane(count) for count in (4, 5)]


@pytest.mark.parametrize(("part", "most"), [(0.5, 2), (3.0, 12)])
async def test_how_many_a_tenant_may_have_open_can_be_set(part: float, most: int) -> None:
    door = Door(tenant_share=part)
    await door.serve("p", "m")

    assert ["default", "flex"] == [door.lane(count) for count in (most, most + 1)]


async def test_nobody_gives_way_where_that_is_switched_off() -> None:
    door = Door(tenant_share=0.0)
    await door.serve("p", "m")

    assert "default" == door.lane(10_000)


async def test_who_gives_way_is_refused_by_what_is_ahead_in_all_queues_down_to_where_it_waits(
    door: Door,
) -> None:
    await door.see(6)
    await door.see(20, 0, tier="flex")

    assert "flex" == door.lane(25)
    assert not await door.admits(15.4, tier="flex")
    assert await door.admits(15.6, tier="flex")
    assert await door.admits(5.6)


async def test_who_gives_way_has_all_those_queues_read_if_nobody_else_has(door: Door) -> None:
    queues = door.models["m"].queues
    door.queues.told |= {queues["default"]: Depth(6, 4), queues["flex"]: Depth(20, 0)}
    door.lane(25)
    assert await door.admits(15.4, tier="flex")
    for _ in range(3):
        await asyncio.sleep(0)

    assert not await door.admits(15.4, tier="flex")
    assert {queues["default"], queues["flex"]} == set(door.queues.asked)
