"""Looks at one moment go together, and are made when they are worth it."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from inferline.errors import Unavailable
from inferline.gateway.watch import Pace, Watch
from inferline.store import Found, Wanted
from inferline.task import TaskRef


class Store:
    """Counts the reads; fails when told to."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.failure: Exception | None = None

    async def read(self, wanted: list[Wanted]) -> list[Found]:
        self.sizes.append(len(wanted))
        if self.failure is not None:
            raise self.failure
        return [Found(None, ()) for _ in wanted]


def wanted(number: int) -> Wanted:
    return Wanted(TaskRef("m", str(number)))


async def test_looks_of_one_moment_are_one_read() -> None:
    store = Store()
    watch = Watch(store)  # type: ignore[arg-type]

    await asyncio.gather(*(watch.look(wanted(n), 0.02) for n in range(50)))

    assert sum(store.sizes) == 50
    assert len(store.sizes) <= 2


async def test_who_stopped_waiting_is_not_looked_for() -> None:
    store = Store()
    watch = Watch(store)  # type: ignore[arg-type]
    look = asyncio.ensure_future(watch.look(wanted(1), 0.02))
    await asyncio.sleep(0)
    look.cancel()

    await asyncio.sleep(0.05)

    assert [] == store.sizes


async def test_a_failed_read_fails_each_of_its_looks_and_no_later_one() -> None:
    store = Store()
    store.failure = Unavailable()
    watch = Watch(store)  # type: ignore[arg-type]

    failed = await asyncio.gather(
        *(watch.look(wanted(n), 0) for n in range(3)), return_exceptions=True
    )
    store.failure = None

    assert {Unavailable} == {type(one) for one in failed}
    assert Found(None, ()) == await watch.look(wanted(4), 0)


@pytest.mark.parametrize(("streamed", "share"), [(True, 1 / 20), (False, 1 / 10)])
def test_a_beginning_is_seen_within_a_share_of_its_time(streamed: bool, share: float) -> None:
    pace = Pace(0.005, 0.2, 0.1, streamed=streamed)
    at, looks = 0.0, []
    while at < 30:
        at += pace.pause(at, flowing=False)
        looks.append(at)

    for before, after in pairwise(looks):
        assert after - before <= max(0.01, min(0.2, before * share)) + 1e-9
    assert len(looks) < 300


def test_a_flowing_stream_is_looked_at_about_thrice_a_flush() -> None:
    pace = Pace(0.005, 0.2, 0.1, streamed=True)
    at, looks = 0.0, []
    while at < 0.1:
        at += pace.pause(at, flowing=True)
        looks.append(round(at, 3))

    assert [0.045, 0.09, 0.1] == looks
