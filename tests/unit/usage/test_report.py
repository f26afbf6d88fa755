"""What a report on usage tells of what is kept and of what was not counted yet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inferline.errors import InvalidRequest
from inferline.memory.tasks import MemoryStore
from inferline.memory.usage import MemoryUsage
from inferline.usage.report import Dimension, Report, dimensions, last_requests, moment
from inferline.usage.usage import (
    DAY,
    DAY_MS,
    HOUR,
    HOUR_MS,
    MINUTE_MS,
    SLICE_MS,
    Resolution,
    Usage,
    UsageKey,
    Watermarks,
)
from tests.support.seams import new_task

#: Noon of a Wednesday, 2026-11-25.
NOON_MS = 1_795_608_000_000
NOW_MS = NOON_MS + 2 * MINUTE_MS
A = UsageKey("acme", "k1", "m1", "p1")
B = UsageKey("acme", "k2", "m2", "p1")
C = UsageKey("other", "k3", "m1", "p2")


class DatedStore(MemoryStore):
    """A store whose clock is set."""

    date_ms = NOW_MS

    def now_ms(self) -> int:
        return self.date_ms


class Place:
    """Usage that is kept, counted until five minutes before noon."""

    def __init__(self) -> None:
        self.store = DatedStore()
        self.usage = MemoryUsage(self.store)

    async def counted(self, until_ms: int = NOON_MS - SLICE_MS) -> None:
        await self.usage.advance(Watermarks(first_pass=until_ms // SLICE_MS))

    async def keep(
        self, grain: Resolution, at_ms: int, usage_key: UsageKey, requests: int = 1
    ) -> None:
        number, rest = divmod(at_ms, grain.ms)
        usage = Usage(requests=requests, answered=requests, output_tokens=10 * requests)
        await self.usage.put(grain, number, rest // grain.part_ms, {usage_key: usage})

    async def end(self, usage_key: UsageKey, at_ms: int) -> str:
        """End a task and return its id."""
        self.store.date_ms = at_ms
        task = replace(new_task(self.store), tenant=usage_key.tenant, key_id=usage_key.key_id)
        await self.store.submit(replace(task, ttl=at_ms // 1000 + 10**6))
        await self.store.cancel(task.ref)
        self.store.date_ms = NOW_MS
        return task.ref.id

    async def report(
        self, tenant: str | None, *by: Dimension, since_ms: int, until_ms: int = NOW_MS
    ) -> Report:
        report = Report(tenant=tenant, by=by, since_ms=since_ms, until_ms=until_ms)
        await report.make(self.usage)
        return report


@pytest.fixture
async def place() -> Place:
    place = Place()
    await place.counted()
    return place


def requests(report: Report, *names: str) -> list[tuple[Any, ...]]:
    return [(*(row[name] for name in names), row["requests"]) for row in report.rows()]


async def test_sums_are_by_what_was_asked_in_its_order(place: Place) -> None:
    for usage_key in (A, B, C):
        await place.keep(HOUR, NOW_MS - HOUR_MS, usage_key, 2)
    since = NOW_MS - DAY_MS

    by_both = await place.report(None, "model", "tenant", since_ms=since)
    by_nothing = await place.report(None, since_ms=since)

    expected = [("m1", "acme", 2), ("m1", "other", 2), ("m2", "acme", 2)]
    assert expected == requests(by_both, "model", "tenant")
    [whole] = by_nothing.rows()
    assert (6, 60) == (whole["requests"], whole["output_tokens"])


async def test_a_tenant_is_told_of_itself_alone(place: Place) -> None:
    for usage_key in (A, C):
        await place.keep(HOUR, NOW_MS - HOUR_MS, usage_key)
        await place.keep(DAY, NOW_MS - 9 * DAY_MS, usage_key)
        await place.end(usage_key, NOW_MS - 1)

    report = await place.report("other", "tenant", "key", since_ms=NOW_MS - 10 * DAY_MS)

    assert [("other", "k3", 3)] == requests(report, "tenant", "key")


async def test_the_last_days_are_told_from_hours_and_earlier_ones_from_days(place: Place) -> None:
    midnight = NOW_MS - NOW_MS % DAY_MS - DAY_MS
    for grain in (HOUR, DAY):  # Both have all: each time counts once.
        for at in (midnight - 1, midnight, NOW_MS - HOUR_MS):
            await place.keep(grain, at, A, 2 if grain is DAY else 1)

    report = await place.report("acme", "day", since_ms=NOW_MS - 5 * DAY_MS)

    expected = [("2026-11-23", 2), ("2026-11-24", 1), ("2026-11-25", 1)]
    assert expected == requests(report, "day")


async def test_hours_are_told_of_times_long_ago(place: Place) -> None:
    at = NOON_MS - 300 * DAY_MS
    for ms in (at, at + HOUR_MS):
        await place.keep(DAY, ms, A)

    span = {"since_ms": at + 59 * MINUTE_MS, "until_ms": at + HOUR_MS + 1}
    report = await place.report("acme", "hour", **span)

    assert [("2026-01-29T12:00Z", 1), ("2026-01-29T13:00Z", 1)] == requests(report, "hour")


async def test_what_was_not_counted_yet_is_in_it(place: Place) -> None:
    await place.keep(HOUR, NOON_MS - SLICE_MS, A, 9)  # Somebody counts it this very moment.
    await place.end(A, NOON_MS - SLICE_MS)
    await place.end(A, NOW_MS)
    await place.end(A, NOON_MS - SLICE_MS - 1)  # Counted, and told by what is kept alone.

    report = await place.report("acme", since_ms=NOW_MS - HOUR_MS, until_ms=NOW_MS)

    [row] = report.rows()
    assert (2, 2) == (row["requests"], row["cancelled"])
    assert report.counted_ms == NOW_MS


@pytest.mark.parametrize("name", ["FRESH_TASKS_MAX", "FRESH_SLICES_MAX"])
async def test_with_too_much_to_count_it_ends_before_that(
    place: Place, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"inferline.usage.report.{name}", 1)
    await place.keep(HOUR, NOW_MS - HOUR_MS, A)
    for _ in range(2):
        await place.end(C, NOW_MS - 1)

    report = await place.report("acme", since_ms=NOW_MS - DAY_MS)

    assert [(1,)] == requests(report)
    assert report.counted_ms == NOON_MS - SLICE_MS


async def test_too_many_rows_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferline.usage.report.ROWS_MAX", 1)
    for usage_key in (A, B):
        await place.keep(HOUR, NOW_MS - HOUR_MS, usage_key)

    with pytest.raises(InvalidRequest, match="shorter time"):
        await place.report("acme", since_ms=NOW_MS - DAY_MS)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("90m", NOW_MS - 90 * MINUTE_MS),
        ("7d", NOW_MS - 7 * DAY_MS),
        ("0h", NOW_MS),
        ("2026-11-25", NOON_MS - 12 * HOUR_MS),
        ("2026-11-25T12:00:00", NOON_MS),
        ("2026-11-25T13:00:00+01:00", NOON_MS),
        ("999999d", 0),
        ("1969-01-01", 0),
    ],
)
def test_a_time_is_so_long_ago_or_a_date(text: str, ms: int) -> None:
    assert ms == moment(text, NOW_MS, "since")


@pytest.mark.parametrize("text", ["", "7", "-7d", "7w", "yesterday", "1234567d", "٣d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        moment(text, NOW_MS, "until")

    assert refused.value.body()["error"]["param"] == "until"


def test_dimensions_are_named_once_each() -> None:
    assert ("tenant", "model") == dimensions(" tenant, model,,tenant")
    with pytest.raises(InvalidRequest, match="tenant, key, model, provider, hour, day"):
        dimensions("tenant,status")


async def test_the_last_requests_are_listed_last_first(place: Place) -> None:
    at = [NOW_MS, NOW_MS - SLICE_MS, NOW_MS - 1000, NOW_MS - HOUR_MS]
    ids = [await place.end(A, ms) for ms in at]
    await place.end(C, NOW_MS)

    listed = await last_requests(place.usage, "acme", NOW_MS - HOUR_MS + 1, 100)

    assert [ids[0], ids[2], ids[1]] == [spent.task_id for spent in listed]
    assert ids[:1] == [s.task_id for s in await last_requests(place.usage, "acme", 0, 1)]
    assert 5 == len(await last_requests(place.usage, None, NOW_MS - DAY_MS, 100))


async def test_only_so_many_are_looked_at_for_a_list(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferline.usage.report.LISTED_FROM_MAX", 3)
    for usage_key in (C, C, C):
        await place.end(usage_key, NOW_MS)
    await place.end(A, NOW_MS - SLICE_MS)

    assert [] == await last_requests(place.usage, "acme", NOW_MS - HOUR_MS, 100)
