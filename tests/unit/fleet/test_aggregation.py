"""The aggregation writes down who serves each model: once for all and in epochs."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from inferline.errors import Unavailable
from inferline.fleet.aggregation import (
    CHANGED_SHARE,
    FORGET_MAX,
    FORGET_SECONDS,
    ROWS_A_SECOND,
    WAIT_SECONDS_MAX,
    FleetAggregator,
    aggregate,
    changed,
)
from inferline.fleet.registry import (
    NOBODY,
    SILENT_SLACK,
    Fleet,
    Model,
    ProviderRecord,
    Serving,
    Snapshot,
    TaskSpeed,
)
from inferline.memory.registry import MemoryRegistry

SECONDS = 10.0


class Clock:
    """Stands still until told, or slept on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Counting(MemoryRegistry):
    """Counts what is asked of it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, silent_seconds=95.0)
        self.calls: Counter[str] = Counter()
        self.written: list[set[str]] = []
        self.broken = False

    async def fleet(self) -> Fleet:
        self.calls["fleet"] += 1
        await asyncio.sleep(0)
        return await super().fleet()

    async def snapshot(self, *, consistent: bool = False) -> Snapshot:
        assert consistent
        self.calls["snapshot"] += 1
        if self.broken:
            raise Unavailable
        await asyncio.sleep(0)
        return await super().snapshot()

    async def put_servings(self, epoch: int, servings: Mapping[str, Serving]) -> None:
        self.written.append(set(servings))
        await super().put_servings(epoch, servings)


class Place:
    """A registry, and as many processes that count as are asked for."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.registry = Counting(self.clock)

    def aggregator(self) -> FleetAggregator:
        return FleetAggregator(self.registry, SECONDS, self.clock.sleep)

    async def put(self, name: str, *models: str, **changes: Any) -> None:
        known = await self.registry.models()
        new = [Model(id=model, queues={}) for model in models if model not in known]
        await self.registry.put_models(new)
        await self.registry.put_provider(provider(name, *models, **changes))

    async def slots(self, model: str = "m") -> int:
        serving = (await self.registry.models())[model].serving
        assert serving is not None
        return serving.slots


@pytest.fixture
def place() -> Place:
    return Place()


def provider(name: str, *models: str, **changes: Any) -> ProviderRecord:
    given = {"slots": 4, "running": 0, "healthy": True, "version": "1", "service_seconds": 2.0}
    return ProviderRecord(id=name, models=models or ("m",), **(given | changes))


def speed(tokens_per_second: float) -> dict[str, TaskSpeed]:
    return {"m": TaskSpeed(1.0, tokens_per_second)}


async def test_a_change_is_counted_at_once(place: Place) -> None:
    for number in (1, 2, 3):
        await place.put(f"p{number}", "m")
        models = await place.aggregator().aggregate_change()

        assert 4 * number == await place.slots()
        assert models == await place.registry.models()
        assert [m.serving for m in models.values()] == [
            m.serving for m in (await place.registry.models()).values()
        ]

    await place.registry.remove_provider("p1")
    await place.aggregator().aggregate_change()
    assert 8 == await place.slots()
    fleet = await place.registry.fleet()
    assert (1, 2, 8) == (fleet.models, fleet.providers, fleet.slots)


async def test_of_many_changes_at_one_moment_none_is_missed(place: Place) -> None:
    async def join(number: int) -> None:
        await place.put(f"p{number}", "m")
        await place.aggregator().aggregate_change()

    await asyncio.gather(*map(join, range(40)))

    assert 160 == await place.slots()


async def test_heartbeats_read_nothing_while_the_last_count_is_young(place: Place) -> None:
    await place.put("p", "m")
    aggregator = place.aggregator()
    await aggregator.aggregate_if_due()
    place.registry.calls.clear()
    for _ in range(1000):
        place.clock.now += 0.99 * SECONDS / 1000
        await aggregator.aggregate_if_due()

    assert {} == place.registry.calls


async def test_an_old_count_is_renewed_by_one_of_many_processes(place: Place) -> None:
    await place.put("p", "m")
    processes = [place.aggregator() for _ in range(20)]
    for _ in range(5):
        place.clock.now += SECONDS
        await asyncio.gather(*(aggregator.aggregate_if_due() for aggregator in processes))

    assert 5 == place.registry.calls["snapshot"]


async def test_a_large_fleet_is_read_no_more_often_than_so_many_rows_a_second(
    place: Place,
) -> None:
    count = 10 * ROWS_A_SECOND
    for number in range(count):
        await place.registry.put_provider(provider(f"p{number}"))
    await place.aggregator().aggregate_change()
    began = place.clock.now
    place.registry.calls.clear()

    while place.clock.now < began + 60:
        place.clock.now += 0.25
        await place.registry.put_provider(provider("p1"))
        await place.aggregator().aggregate_change()

    assert place.registry.calls["snapshot"] * count <= 61 * ROWS_A_SECOND


async def test_the_news_of_a_change_waits_for_its_turn_a_moment_and_not_longer(
    place: Place,
) -> None:
    for number in range(int(ROWS_A_SECOND * WAIT_SECONDS_MAX)):
        await place.put(f"p{number}", "m")
    await place.aggregator().aggregate_change()
    slots = await place.slots()
    await place.put("late", "m")

    assert await place.aggregator().aggregate_change() is not None
    assert [WAIT_SECONDS_MAX] == pytest.approx(place.clock.slept)
    assert slots + 4 == await place.slots()

    await place.put("later", "m")
    assert await place.aggregator().aggregate_change() is None
    place.clock.now += SECONDS
    await place.aggregator().aggregate_if_due()
    assert slots + 8 == await place.slots()


async def test_a_count_that_fails_raises_nothing_and_another_follows(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    await place.put("p", "m")
    aggregator = place.aggregator()
    place.registry.broken = True
    assert await aggregator.aggregate_change() is None
    await aggregator.aggregate_if_due()
    place.registry.broken = False

    place.clock.now += SECONDS
    await aggregator.aggregate_if_due()

    assert 4 == await place.slots()
    assert "could not aggregate" in caplog.text


async def test_a_provider_that_falls_silent_serves_nobody_and_is_told_of_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    await place.put("gone", "m")
    await place.put("here", "n")
    await place.aggregator().aggregate_change()

    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            place.clock.now += SECONDS
            await place.put("here", "n")
            await place.aggregator().aggregate_if_due()

    models = await place.registry.models()
    assert (False, True) == (models["m"].is_served, models["n"].is_served)
    assert ["the provider gone has fallen silent"] == [r.getMessage() for r in caplog.records]


async def test_who_is_gone_for_long_is_read_no_more(place: Place) -> None:
    for number in range(2 * FORGET_MAX):
        await place.put(f"gone {number}", "m")
    await place.aggregator().aggregate_change()
    place.clock.now += FORGET_SECONDS + 1
    await place.put("here", "m")

    left = []
    for _ in range(3):
        place.clock.now += SECONDS
        await place.put("here", "m")
        await place.aggregator().aggregate_if_due()
        left.append(len((await place.registry.snapshot(consistent=True)).silent))

    assert [FORGET_MAX, 0, 0] == left


async def test_a_clock_that_was_wrong_at_first_delays_nothing(place: Place) -> None:
    await place.put("p", "m")
    aggregator, fleet = place.aggregator(), place.registry.fleet

    async def corrected() -> Fleet:
        place.clock.now -= 365 * 86_400
        place.registry.fleet = fleet  # type: ignore[method-assign]
        return await fleet()

    place.clock.now += 365 * 86_400
    place.registry.fleet = corrected  # type: ignore[method-assign]
    await aggregator.aggregate_if_due()
    place.clock.now += 2 * SECONDS
    await place.put("q", "m")
    await aggregator.aggregate_if_due()

    assert 8 == await place.slots()


async def test_rows_are_written_for_news_and_now_and_then(place: Place) -> None:
    for name in ("a", "b"):
        await place.put(f"of {name}", name)
    await place.aggregator().aggregate_change()
    place.registry.written.clear()
    seconds = 0.0

    while seconds < 95 * SILENT_SLACK * 3:
        place.clock.now += SECONDS
        seconds += SECONDS
        for name in ("a", "b"):
            await place.put(f"of {name}", name)
        await place.aggregator().aggregate_if_due()

    assert 2 == sum(written == {"a", "b"} for written in place.registry.written)
    assert all(not written or written == {"a", "b"} for written in place.registry.written)


@pytest.mark.parametrize(
    ("changes", "news"),
    [
        ({}, False),
        ({"slots": 5}, True),
        ({"healthy": False}, True),
        ({"models": ("m", "other")}, True),
        ({"service_seconds": 2.0 * (1 + CHANGED_SHARE / 2)}, False),
        ({"service_seconds": 2.0 * (1 + 2 * CHANGED_SHARE)}, True),
        ({"service_seconds": 0.0}, True),
        ({"speeds": {}}, True),
        ({"speeds": speed(100 * (1 + 2 * CHANGED_SHARE))}, True),
        ({"speeds": speed(100 * (1 + CHANGED_SHARE / 2))}, False),
        ({"seen_ms": 1 + int(35_000 * SILENT_SLACK)}, True),
        ({"seen_ms": int(35_000 * SILENT_SLACK)}, False),
    ],
)
def test_what_is_news(changes: dict[str, Any], news: bool) -> None:
    def serving(**changes: Any) -> Serving:
        models = changes.pop("models", ("m", "n"))
        one = provider("p", *models, **({"speeds": speed(100.0)} | changes))
        return aggregate([one]).get("m", NOBODY)

    assert news is changed(serving(), serving(**changes), 35.0)
    assert changed(None, serving(), 35.0)
    assert not changed(NOBODY, NOBODY, 35.0)


def test_sums_leave_out_who_is_not_healthy() -> None:
    serving = aggregate(
        [
            provider("a", slots=4, service_seconds=2.0, speeds=speed(9.0), seen_ms=5),
            provider("b", slots=8, service_seconds=4.0, seen_ms=7),
            provider("new", slots=3, service_seconds=0.0),
            provider("ill", slots=100, healthy=False, speeds=speed(99.0), seen_ms=9),
        ]
    )["m"]

    assert (3, 15, 3.0, 7) == (
        serving.providers,
        serving.slots,
        serving.service_seconds,
        serving.seen_ms,
    )
    assert ["a"] == [group.provider_id for group in serving.speed_groups]
    [pool] = serving.pools
    assert (4 / 2 + 8 / 4 + 3 / 3, {}) == (pool.rate, pool.rivals)


async def test_how_long_a_model_has_been_without_a_provider_is_kept(place: Place) -> None:
    await place.put("p1", "m")
    await place.put("ill", "ill", healthy=False)
    await place.aggregator().aggregate_change()
    left_ms = place.registry.now_ms()
    await place.registry.remove_provider("p1")
    for _ in range(3):
        place.clock.now += 60.0
        await place.put("ill", "ill", healthy=False)
        await place.aggregator().aggregate_change()

    models = await place.registry.models()
    serving, ill = models["m"].serving, models["ill"].serving
    assert serving is not None
    assert ill is not None
    assert (0, left_ms) == (serving.providers, serving.seen_ms)
    assert (0, place.registry.now_ms()) == (ill.providers, ill.seen_ms)


async def test_a_model_that_nobody_ever_had_is_counted_from_its_first_aggregation(
    place: Place,
) -> None:
    await place.registry.put_models([Model(id="listed", queues={})])
    await place.aggregator().aggregate_change()
    first_ms = place.registry.now_ms()
    place.clock.now += 60.0
    await place.aggregator().aggregate_change()

    serving = (await place.registry.models())["listed"].serving
    assert serving is not None
    assert first_ms == serving.seen_ms
