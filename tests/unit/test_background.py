"""Races, pauses and back-offs."""

from __future__ import annotations

import asyncio

import pytest

from inferline.background import Backoff, Wake, first_of


class Clock:
    """A clock whose sleeps end when they are told to."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await self.over.wait()


async def test_work_that_ends_first_gives_its_result() -> None:
    event = asyncio.get_running_loop().create_future()

    assert 5 == await first_of(asyncio.sleep(0, 5), event)
    assert event.cancelled()


async def test_work_is_cancelled_and_has_ended_when_the_event_comes_first() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("work")

    assert None is await first_of(work(), asyncio.sleep(0))
    assert ["work"] == ended


async def test_gathered_work_is_cancelled_when_the_event_comes_first() -> None:
    event = asyncio.Event()
    event.set()

    work = asyncio.gather(asyncio.sleep(60), asyncio.sleep(60))

    assert await first_of(work, event.wait()) is None


async def test_what_the_work_raises_is_raised_also_at_its_end() -> None:
    async def fail() -> None:
        raise ValueError("at once")

    async def fail_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("at the end")

    with pytest.raises(ValueError, match="at once"):
        await first_of(fail(), asyncio.Event().wait())
    with pytest.raises(ValueError, match="at the end"):
        await first_of(fail_at_the_end(), asyncio.sleep(0))


async def test_cancelled_it_cancels_both() -> None:
    loop = asyncio.get_running_loop()
    work, event = loop.create_future(), loop.create_future()
    race = asyncio.ensure_future(first_of(work, event))
    await asyncio.sleep(0)

    race.cancel()

    with pytest.raises(asyncio.CancelledError):
        await race
    assert (True, True) == (work.cancelled(), event.cancelled())


async def test_a_pause_ends_with_its_time_or_early() -> None:
    clock = Clock()
    wake = Wake(clock)
    pause = asyncio.ensure_future(wake.wait(9.0))
    await asyncio.sleep(0.01)
    assert not pause.done()

    wake.set()
    await pause
    later = asyncio.ensure_future(wake.wait(9.0))
    await asyncio.sleep(0.01)
    assert not later.done()

    clock.over.set()
    await later


async def test_a_pause_that_begins_after_the_wake_is_none() -> None:
    wake = Wake(Clock())
    wake.set()

    await asyncio.wait_for(wake.wait(9.0), 5)


def test_a_backoff_doubles_up_to_the_longest() -> None:
    backoff = Backoff(0.5, 8.0)

    assert [0.5, 1.0, 2.0, 4.0, 8.0, 8.0] == [backoff.seconds(n) for n in range(6)]
    assert 8.0 == backoff.seconds(10_000)
