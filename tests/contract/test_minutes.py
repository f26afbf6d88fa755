"""The contract of every store of minute metrics."""

from __future__ import annotations

import asyncio
from collections import Counter

from inferline.usage.minutes import Minute, MinuteMetrics
from tests.support.seams import Seams


def row(number: int, model: str = "org/m", **counts: int) -> Minute:
    return Minute(number, model, MinuteMetrics(Counter(counts)))


async def test_an_empty_store_has_no_minutes(seams: Seams) -> None:
    assert [] == await seams.minutes.since(0)


async def test_what_is_added_to_a_minute_adds_up(seams: Seams) -> None:
    await seams.minutes.add(row(7, n=2, bytes=10))
    await seams.minutes.add(row(7, n=1, other=5))

    assert [row(7, n=3, bytes=10, other=5)] == await seams.minutes.since(7)


async def test_nothing_that_is_added_at_once_is_lost(seams: Seams) -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(seams.minutes.add(row(7, n=1)))

    assert [row(7, n=10)] == await seams.minutes.since(7)


async def test_models_and_requests_without_one_have_rows_of_their_own(seams: Seams) -> None:
    await seams.minutes.add(row(7, "a", n=1))
    await seams.minutes.add(row(7, "", n=2))

    minutes = await seams.minutes.since(7)

    assert {"a": 1, "": 2} == {minute.model: minute.metrics.counts["n"] for minute in minutes}


async def test_only_minutes_from_the_asked_one_on_are_read_oldest_first(seams: Seams) -> None:
    for number in (99, 10, 9, 100):
        await seams.minutes.add(row(number, n=1))

    minutes = await seams.minutes.since(10)

    assert [10, 99, 100] == [minute.number for minute in minutes]


async def test_a_row_may_have_more_names_than_one_write_takes(seams: Seams) -> None:
    many = {f"first:{number}": number for number in range(350)}

    await seams.minutes.add(row(7, **many))

    assert [row(7, **many)] == await seams.minutes.since(7)


async def test_a_name_may_hold_what_an_expression_may_not(seams: Seams) -> None:
    odd = {"e:backend_500": 1, "c:dynamodb:GetItem": 2, "size": 3}

    await seams.minutes.add(row(7, **odd))

    assert [row(7, **odd)] == await seams.minutes.since(7)
