"""Minutes are within a tenth, lose nothing that can be kept, and never hold up an answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferline.errors import Unavailable
from inferline.memory.minutes import MemoryMinutes
from inferline.usage.ledger import Entry
from inferline.usage.minutes import (
    MINUTE_MS,
    ROWS_WAITING_MAX,
    Minute,
    MinuteLedger,
    MinuteMetrics,
    last_hour,
    total,
)


def entry(minute: int = 1, model: str = "m", **changes: Any) -> Entry:
    given: dict[str, Any] = {
        "ended_ms": minute * MINUTE_MS + 5,
        "tenant": "t",
        "model": model,
        "tier": "default",
        "path": "/v1/chat/completions",
        "streamed": True,
        "status": 200,
        "queue_ms": 10,
        "first_ms": 100,
        "total_ms": 1000,
        "answer_bytes": 50,
    }
    return Entry(**(given | changes))


class Moody(MemoryMinutes):
    """A store that sometimes does not answer."""

    down = False

    async def add(self, row: Minute) -> None:
        if self.down:
            raise Unavailable
        await super().add(row)


@given(st.lists(st.integers(0, 900_000), min_size=1, max_size=60), st.floats(0, 1))
def test_a_percentile_is_within_a_tenth_of_the_true_one(times: list[int], share: float) -> None:
    metrics = MinuteMetrics()
    for ms in times:
        metrics.note(entry(total_ms=ms))

    result = metrics.percentile("total", share)

    true = sorted(times)[max(0, -int(-share * len(times) // 1) - 1)]
    assert result is not None
    assert abs(result - true) <= max(1, true * 0.1)


def test_there_is_no_percentile_of_nothing() -> None:
    assert MinuteMetrics().percentile("first", 0.5) is None


def test_requests_errors_bytes_and_calls_are_counted() -> None:
    metrics = MinuteMetrics()

    metrics.note(entry())
    metrics.note(entry(code="queue_full", status=429, answer_bytes=0))
    metrics.note_calls({("sqs", "SendMessage"): 2, ("dynamodb", "GetItem"): 0})

    assert (2, 50) == (metrics.requests, metrics.answer_bytes)
    assert {"queue_full": 1} == metrics.errors
    assert {"sqs:SendMessage": 2} == metrics.calls


def test_times_are_those_of_answers_without_an_error() -> None:
    metrics = MinuteMetrics()

    metrics.note(entry(code="deadline_exceeded", status=504, total_ms=600_000))
    metrics.note(entry(total_ms=1000))

    assert 0.1 >= abs((metrics.percentile("total", 1.0) or 0) / 1000 - 1)


def test_a_first_token_is_timed_in_streams_alone() -> None:
    metrics = MinuteMetrics()

    metrics.note(entry(streamed=False))

    assert metrics.percentile("first", 0.5) is None


def test_tokens_are_counted_with_errors_or_without() -> None:
    metrics = MinuteMetrics()

    metrics.note(entry(input_tokens=3, output_tokens=5))
    metrics.note(entry(code="cancelled", input_tokens=1))
    metrics.note(entry())

    assert (4, 5) == (metrics.input_tokens, metrics.output_tokens)


def test_who_tells_no_tokens_makes_no_figure_of_them() -> None:
    metrics = MinuteMetrics()

    metrics.note(entry())

    assert not {"in", "out"} & metrics.counts.keys()


def test_the_oldest_age_of_a_minute_is_the_largest_that_was_noted() -> None:
    rows = [Minute.of_age(7, "a", 1000), Minute.of_age(7, "b", 90_000), Minute.of_age(7, "a", 0)]

    oldest = total(rows).percentile("age", 1.0)

    assert 0.1 >= abs((oldest or 0) / 90_000 - 1)
    assert 0 == rows[2].metrics.percentile("age", 1.0)
    assert 0 == total(rows).requests


async def test_ages_are_written_to_the_minute_and_model_that_they_are_of() -> None:
    store = MemoryMinutes()
    ledger = MinuteLedger(store)

    ledger.note_ages(7 * MINUTE_MS + 3, {"a": 1000, "b": 5})
    await ledger.flush()

    assert [(7, "a"), (7, "b")] == [(row.number, row.model) for row in await store.since(0)]


async def test_where_nothing_waits_nothing_is_written() -> None:
    store = MemoryMinutes()
    ledger = MinuteLedger(store)

    ledger.note_ages(7 * MINUTE_MS, {})
    await ledger.flush()

    assert [] == await store.since(0)


def test_minutes_add_up_to_one() -> None:
    one, two = MinuteMetrics(), MinuteMetrics()
    one.note(entry())
    two.note(entry(code="queue_full"))

    both = total([Minute(1, "a", one), Minute(2, "b", two)])

    assert (2, {"queue_full": 1}) == (both.requests, both.errors)
    assert 1 == one.requests


async def test_requests_of_a_minute_and_model_are_one_write() -> None:
    store = MemoryMinutes()
    ledger = MinuteLedger(store)

    for _ in range(3):
        ledger.record(entry())
    ledger.record(entry(model="other"))
    ledger.record(entry(minute=2))
    await ledger.flush()
    await ledger.flush()

    assert [(1, "m", 3), (1, "other", 1), (2, "m", 1)] == [
        (row.number, row.model, row.metrics.requests) for row in await store.since(0)
    ]


async def test_calls_since_the_start_are_told_once_and_only_along_with_requests() -> None:
    store, calls = MemoryMinutes(), Counter({("sqs", "SendMessage"): 5})
    ledger = MinuteLedger(store, lambda: calls)

    calls["sqs", "SendMessage"] += 3
    await ledger.flush()
    assert [] == await store.since(0)

    ledger.record(entry())
    await ledger.flush()
    calls["sqs", "SendMessage"] += 1
    ledger.record(entry(minute=2))
    await ledger.flush()

    assert [3, 1] == [row.metrics.calls["sqs:SendMessage"] for row in await store.since(0)]


async def test_what_the_store_does_not_take_is_written_later() -> None:
    store = Moody()
    ledger = MinuteLedger(store)
    ledger.record(entry())

    store.down = True
    await ledger.flush()
    ledger.record(entry())
    store.down = False
    await ledger.flush()

    (row,) = await store.since(0)
    assert 2 == row.metrics.requests


async def test_what_comes_while_others_are_written_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Slow(MemoryMinutes):
        async def add(self, row: Minute) -> None:
            ledger.record(entry(minute=2))
            await super().add(row)

    ledger = MinuteLedger(Slow())
    ledger.record(entry())

    await ledger.flush()

    assert [] == caplog.records


async def test_of_what_waits_too_long_the_oldest_is_dropped() -> None:
    store = Moody()
    ledger = MinuteLedger(store)
    store.down = True

    for minute in range(ROWS_WAITING_MAX + 10):
        ledger.record(entry(minute=minute))
        await ledger.flush()
    store.down = False
    await ledger.flush()

    result = await store.since(0)
    assert (ROWS_WAITING_MAX, 10) == (len(result), result[0].number)


class Stepped:
    """A clock whose sleeps end when told."""

    def __init__(self) -> None:
        self.asleep = asyncio.Event()
        self.wake = asyncio.Event()

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.asleep.set()
        await self.wake.wait()
        self.wake.clear()


async def test_minutes_are_written_in_the_background_and_once_more_at_the_end() -> None:
    store, clock = MemoryMinutes(), Stepped()
    ledger = MinuteLedger(store)

    looks: list[int] = []
    async with ledger.flushing(clock, lambda: looks.append(1)):
        await clock.asleep.wait()
        assert not looks
        ledger.record(entry())
        clock.asleep.clear()
        clock.wake.set()
        await clock.asleep.wait()
        assert 1 == total(await store.since(0)).requests
        assert [1] == looks
        ledger.record(entry())

    assert 2 == total(await store.since(0)).requests


def test_the_last_hour_is_sixty_minutes_with_the_present_one() -> None:
    numbers = last_hour(100 * MINUTE_MS + 1)

    assert (60, 41, 100) == (len(numbers), numbers[0], numbers[-1])
