"""
A cached value is shared, renewed behind the readers, and new when a new one is asked for. Who asks
for a model costs the read of its row.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inferline.accounts.caller import ANYONE, Caller
from inferline.errors import ModelNotFound, Unavailable
from inferline.fleet.registry import Model, Serving, Snapshot
from inferline.gateway.catalogue import MISSED_SECONDS, ROWS_MAX, Cached, Catalogue
from inferline.memory.queue import MemoryQueue
from inferline.memory.registry import MemoryRegistry
from inferline.names import dedicated_name, model_hash, slug
from inferline.validation.payload import MODEL_CHARS_MAX


class Clock:
    """Stands still until told."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class Source:
    """A value that changes, and fetches that end when told."""

    def __init__(self) -> None:
        self.value = 1
        self.fetches = 0
        self.open = asyncio.Event()
        self.open.set()
        self.fails = False

    async def fetch(self) -> int:
        self.fetches += 1
        seen = self.value
        await self.open.wait()
        if self.fails:
            raise Unavailable
        return seen


async def test_many_readers_share_a_fetch_and_then_its_value() -> None:
    source, clock = Source(), Clock()
    cached = Cached(source.fetch, clock, 1.0)

    assert [1] * 9 == await asyncio.gather(*(cached.get() for _ in range(9)))
    assert 1 == await cached.get()
    assert 1 == source.fetches


async def test_a_value_from_before_a_long_stop_serves_nobody() -> None:
    source, clock = Source(), Clock()
    cached = Cached(source.fetch, clock, 1.0)
    await cached.get()
    source.value, clock.now = 2, 600.0

    assert cached.peek() is None
    assert 2 == await cached.get()


async def test_an_old_value_serves_while_it_is_renewed() -> None:
    source, clock = Source(), Clock()
    cached = Cached(source.fetch, clock, 1.0)
    await cached.get()
    source.value, clock.now = 2, 5.0

    assert 1 == await cached.get()
    assert 2 == await cached.settled()


async def test_a_settled_value_is_no_older_than_asked_for() -> None:
    source, clock = Source(), Clock()
    cached = Cached(source.fetch, clock, 10.0)
    await cached.get()
    source.value, clock.now = 2, 5.0

    assert 1 == await cached.settled()
    assert 2 == await cached.settled(1.0)


async def test_a_value_asked_for_anew_is_never_one_that_was_fetched_before() -> None:
    source, clock = Source(), Clock()
    cached = Cached(source.fetch, clock, 1.0)
    source.open.clear()
    under_way = asyncio.ensure_future(cached.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    source.value = 2
    fresh = asyncio.ensure_future(cached.fresh())
    await asyncio.sleep(0)
    source.open.set()

    assert 2 == await fresh
    assert 1 == await under_way


async def test_a_failed_renewal_leaves_the_old_value() -> None:
    source, clock = Source(), Clock()
    cached = Cached(source.fetch, clock, 1.0)
    await cached.get()
    source.fails, clock.now = True, 5.0

    assert 1 == await cached.get()
    with pytest.raises(Unavailable):
        await cached.fresh()
    assert 1 == await cached.get()


async def test_a_value_that_is_only_known_is_not_renewed() -> None:
    source, clock = Source(), Clock()
    cached = Cached(source.fetch, clock, 1.0)

    assert cached.known() is None
    await cached.get()
    clock.now = 5.0
    assert 1 == cached.known()
    clock.now = 600.0
    assert cached.known() is None
    await asyncio.sleep(0)
    assert 1 == source.fetches


async def test_an_expired_value_serves_while_a_new_one_is_fetched() -> None:
    source, clock = Source(), Clock()
    cached = Cached(source.fetch, clock, 10.0)
    await cached.get()
    source.value = 2
    cached.expire()

    assert 1 == await cached.get()
    assert 2 == await cached.settled()
    assert 2 == await cached.get()
    assert 2 == source.fetches


async def test_a_value_that_is_taken_is_not_replaced_by_an_older_one_under_way() -> None:
    source, clock = Source(), Clock()
    cached = Cached(source.fetch, clock, 10.0)
    source.open.clear()
    under_way = asyncio.ensure_future(cached.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    cached.take(7)
    source.open.set()

    assert 1 == await under_way
    assert 7 == await cached.get()
    assert 1 == source.fetches


class Rows(MemoryRegistry):
    """Notes which models it is asked for; None stands for all of them."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.asked: list[str | None] = []

    async def model(self, name: str) -> Model | None:
        self.asked.append(name)
        return await super().model(name)

    async def models(self) -> dict[str, Model]:
        self.asked.append(None)
        return await super().models()

    async def snapshot(self, *, consistent: bool = False) -> Snapshot:
        raise AssertionError("nobody needs everything")


async def catalogue_of(*models: str, **kept: Any) -> tuple[Catalogue, Rows, Clock]:
    clock = Clock()
    rows = Rows(clock)
    await rows.put_models([Model(id=model, queues={}) for model in models])
    return Catalogue(rows, MemoryQueue(), clock, 10.0, **kept), rows, clock


async def test_requests_for_a_model_read_its_row_and_share_it() -> None:
    catalogue, rows, clock = await catalogue_of("a", "b")

    for _ in range(9):
        await catalogue.model("a")
        clock.now += 1.0
    await catalogue.model("b")

    assert ["a", "b"] == rows.asked


async def test_a_model_that_was_missed_is_there_as_soon_as_it_comes() -> None:
    catalogue, rows, clock = await catalogue_of()
    for _ in range(5):
        with pytest.raises(ModelNotFound):
            await catalogue.model("new")
    await rows.put_models([Model(id="new", queues={})])
    clock.now += MISSED_SECONDS + 0.1

    assert "new" == (await catalogue.model("new")).id
    assert 2 == len(rows.asked)


@pytest.mark.parametrize("name", ["", "x" * (MODEL_CHARS_MAX + 1), dedicated_name("m", "local")])
async def test_what_can_be_no_name_is_not_looked_for(name: str) -> None:
    catalogue, rows, _ = await catalogue_of()

    with pytest.raises(ModelNotFound):
        await catalogue.asked(name, ANYONE)

    assert [] == rows.asked


async def test_a_model_that_is_not_for_a_caller_is_not_looked_for() -> None:
    catalogue, rows, _ = await catalogue_of("m")

    with pytest.raises(ModelNotFound, match="'m'"):
        await catalogue.asked("m", Caller(tenant="t", models=("a*",)))

    assert [] == rows.asked


async def test_a_reserved_model_is_missed_by_the_name_that_it_was_asked_for() -> None:
    catalogue, rows, _ = await catalogue_of("m")

    with pytest.raises(ModelNotFound) as missed:
        await catalogue.asked("m", Caller(tenant="acme", is_reserved=True))

    assert {dedicated_name("m", "acme")} == set(rows.asked)
    assert "acme" not in str(missed.value)


async def test_names_that_requests_made_up_take_no_more_room_than_so_many() -> None:
    catalogue, rows, _ = await catalogue_of("known")
    await catalogue.model("known")
    for number in range(ROWS_MAX + 5):
        await catalogue.model("known")
        with pytest.raises(ModelNotFound):
            await catalogue.model(f"made up {number}")

    assert 1 == rows.asked.count("known")
    assert ROWS_MAX == len(catalogue._rows)


async def test_the_model_of_a_mark_is_looked_up_once_and_a_new_one_anew() -> None:
    catalogue, rows, clock = await catalogue_of("a", "b")
    models = []
    for name in ("a", "b", "a"):
        clock.now += 600.0
        models.append(await catalogue.slugs(model_hash(slug(name))))
    await rows.put_models([Model(id="new", queues={})])
    models.append(await catalogue.slugs(model_hash(slug("new"))))

    assert [[slug(name)] for name in ("a", "b", "a", "new")] == models
    assert [None, None] == rows.asked


async def test_without_a_mark_all_models_are_meant() -> None:
    catalogue, _, _ = await catalogue_of("a", "b")

    assert [slug("a"), slug("b")] == await catalogue.slugs("")


DAY_SECONDS = 24 * 3600.0


async def test_a_model_that_nobody_has_any_more_leaves_after_its_time() -> None:
    kept = {"model_seconds_kept": DAY_SECONDS, "listed": ("listed",)}
    catalogue, rows, clock = await catalogue_of("gone", "listed", "served", **kept)
    old = {"gone": Serving(seen_ms=rows.now_ms()), "listed": Serving(seen_ms=rows.now_ms())}
    await rows.put_servings(1, old)

    clock.now += DAY_SECONDS + 1
    now = Serving(providers=1, slots=1, seen_ms=rows.now_ms())
    await rows.put_servings(2, {"served": now})

    assert {"listed", "served"} == set(await catalogue.models())
    assert "listed" == (await catalogue.model("listed")).id
    with pytest.raises(ModelNotFound):
        await catalogue.model("gone")


async def test_a_model_that_comes_back_is_there_again() -> None:
    catalogue, rows, clock = await catalogue_of("m", model_seconds_kept=DAY_SECONDS)
    await rows.put_servings(1, {"m": Serving(seen_ms=rows.now_ms())})
    clock.now += DAY_SECONDS + 1
    with pytest.raises(ModelNotFound):
        await catalogue.model("m")

    await rows.put_servings(2, {"m": Serving(providers=1, slots=1, seen_ms=rows.now_ms())})
    clock.now += MISSED_SECONDS + 0.1

    assert "m" == (await catalogue.model("m")).id


async def test_without_a_limit_a_model_stays_for_ever() -> None:
    catalogue, rows, clock = await catalogue_of("m")
    await rows.put_servings(1, {"m": Serving(seen_ms=rows.now_ms())})
    clock.now += 10_000 * DAY_SECONDS

    assert "m" == (await catalogue.model("m")).id
