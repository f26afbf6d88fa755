"""A cached value is shared, renewed behind the readers, and new when a new one is asked for."""

from __future__ import annotations

import asyncio

import pytest

from inferline.errors import Unavailable
from inferline.gateway.catalogue import Cached


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
