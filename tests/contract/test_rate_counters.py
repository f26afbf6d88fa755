"""The contract of every store of rate counters, and the counting in it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from inferline.accounts.limits import UNSET, Limits
from inferline.accounts.rate_counters import (
    ConditionalUpdate,
    CounterStore,
    LimitOwner,
    RateCounters,
    RawRow,
    Refusal,
    Reservation,
)
from inferline.aws.api.client import AwsClient
from inferline.aws.dynamodb.rate_counters import DynamoRateCounters
from tests.chaos.faults import FAULTS, Bend, Fault, InjectingProxy
from tests.support.seams import Seams, opened

KEY = LimitOwner("key", "k1")
#: A quarter into a minute and an hour into a day.
NOW_MS = 20_000 * 86_400_000 + 3_615_000


@dataclass(slots=True)
class At:
    """A store whose time only the test moves."""

    store: CounterStore
    now: int = NOW_MS

    def now_ms(self) -> int:
        return self.now

    async def change(
        self, owner: LimitOwner, change: ConditionalUpdate, write_id: str
    ) -> tuple[bool, RawRow]:
        return await self.store.change(owner, change, write_id)


@pytest.fixture
def at(seams: Seams) -> At:
    return At(seams.rate_counters)


def rate_counters(at: At) -> RateCounters:
    return RateCounters(at, request_seconds_max=600)


async def row_of(store: Any, owner: LimitOwner = KEY) -> RawRow:
    """Read a row by a change that no row can meet."""
    _, row = await store.change(owner, ConditionalUpdate(equal={"open": -9}), "look")
    return row


async def test_a_write_sets_copies_and_adds_at_once(seams: Seams) -> None:
    first = await seams.rate_counters.change(
        KEY, ConditionalUpdate(sets={"a": 5, "b": 1}, adds={"c": 2}), "1"
    )
    second = await seams.rate_counters.change(
        KEY, ConditionalUpdate(copies={"b": ("a", 1)}, adds={"a": -2, "c": 3}), "2"
    )

    assert (True, True) == (first[0], second[0])
    assert (3, 6, 5) == tuple(second[1][name] for name in "abc")


@pytest.mark.parametrize(
    "unmet",
    [
        ConditionalUpdate(equal={"a": 4}),
        ConditionalUpdate(equal={"a": None}),
        ConditionalUpdate(equal={"b": 5}),
        ConditionalUpdate(least={"a": 6}),
        ConditionalUpdate(least={"b": -1}),
        ConditionalUpdate(most={"a": 4}),
        ConditionalUpdate(most={"b": 1}),
        ConditionalUpdate(equal={"a": 5}, most={"a": 4}),
    ],
)
async def test_an_unmet_condition_changes_nothing_and_tells_the_row(
    seams: Seams, unmet: ConditionalUpdate
) -> None:
    await seams.rate_counters.change(KEY, ConditionalUpdate(sets={"a": 5}), "1")
    unmet.adds = {"a": 1}

    done, row = await seams.rate_counters.change(KEY, unmet, "2")

    assert (False, 5, "1") == (done, row["a"], row["mark"])
    assert 5 == (await row_of(seams.rate_counters))["a"]


async def test_met_conditions_are_in_nobodys_way(seams: Seams) -> None:
    await seams.rate_counters.change(KEY, ConditionalUpdate(sets={"a": 5}), "1")
    met = ConditionalUpdate(equal={"a": 5, "b": None}, least={"a": 5}, most={"a": 5}, adds={"a": 1})

    done, row = await seams.rate_counters.change(KEY, met, "2")

    assert (True, 6) == (done, row["a"])


async def test_a_condition_on_a_row_that_is_not_there_tells_an_empty_one(seams: Seams) -> None:
    assert (False, {}) == await seams.rate_counters.change(
        KEY, ConditionalUpdate(least={"a": 1}), "1"
    )


async def test_a_write_that_is_repeated_counts_once(seams: Seams) -> None:
    more = ConditionalUpdate(adds={"a": 1})

    results = [
        await seams.rate_counters.change(KEY, more, write_id) for write_id in ("1", "1", "2", "2")
    ]

    assert [(True, 1), (True, 1), (True, 2), (True, 2)] == [(d, row["a"]) for d, row in results]


async def test_each_owner_has_a_row_of_its_own(seams: Seams) -> None:
    owners = [KEY, LimitOwner("tenant", "k1"), LimitOwner("key", "k2")]
    for number, owner in enumerate(owners):
        await seams.rate_counters.change(owner, ConditionalUpdate(sets={"a": number}), "1")

    assert [0, 1, 2] == [(await row_of(seams.rate_counters, owner))["a"] for owner in owners]


async def test_a_row_of_a_meter_is_nothing_else_of_the_registry(seams: Seams) -> None:
    await seams.rate_counters.change(KEY, ConditionalUpdate(sets={"a": 1}), "1")

    snapshot = await seams.registry.snapshot()

    assert ({}, {}) == (snapshot.models, snapshot.providers)
    assert await seams.keys.key("k1") is None


async def test_what_is_reserved_is_told_and_given_back(at: At) -> None:
    counted, limits = rate_counters(at), Limits(requests_per_minute=9, tokens_per_minute=900)
    first = await counted.reserve(KEY, limits, 100)
    second = await counted.reserve(KEY, limits, 200)
    assert isinstance(first, Reservation)
    assert isinstance(second, Reservation)

    await counted.settle(first, 40)
    await counted.undo(second)
    third = await counted.reserve(KEY, limits, 10)

    assert (2, 300, 300, 2) == (
        *(second.counters.requests, second.counters.tokens),
        *(second.counters.day_tokens, second.counters.open),
    )
    assert (2, 50, 50, 1) == (
        *(third.counters.requests, third.counters.tokens),
        *(third.counters.day_tokens, third.counters.open),
    )


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(requests_per_minute=7), 7),
        (Limits(tokens_per_minute=70), 7),
        (Limits(tokens_per_day=79), 7),
        (Limits(concurrent_requests=7), 7),
        (UNSET, 24),
    ],
)
async def test_of_many_at_once_as_many_are_let_in_as_may_be(
    at: At, limits: Limits, expected: int
) -> None:
    gateways = [rate_counters(at) for _ in range(3)]

    results = await asyncio.gather(
        *(gateways[number % 3].reserve(KEY, limits, 10) for number in range(24))
    )

    reservations = [result for result in results if isinstance(result, Reservation)]
    row = await row_of(at)
    assert expected == len(reservations)
    assert (expected, expected * 10, expected) == (row["requests"], row["tokens"], row["open"])
    await asyncio.gather(*(gateways[0].settle(reservation, 1) for reservation in reservations))
    row = await row_of(at)
    assert (expected, expected, 0) == (row["tokens"], row["day_tokens"], row["open"])


async def test_a_minute_and_a_day_begin_anew_and_once_among_many(at: At) -> None:
    limits = Limits(requests_per_minute=5, tokens_per_day=60)
    gateways = [rate_counters(at) for _ in range(3)]
    for _ in range(5):
        await gateways[0].reserve(KEY, limits, 10)

    for later_ms, expected in ((60_000, 1), (86_400_000, 5)):
        at.now += later_ms
        results = await asyncio.gather(
            *(gateways[number % 3].reserve(KEY, limits, 10) for number in range(12))
        )
        assert expected == sum(isinstance(result, Reservation) for result in results)


async def test_what_a_dead_gateway_held_is_given_up_after_two_generations(at: At) -> None:
    limits, counted = Limits(concurrent_requests=3), rate_counters(at)
    for _ in range(3):
        await counted.reserve(KEY, limits, 0)
    refused = []

    for _ in range(3):
        refused.append(isinstance(await counted.reserve(KEY, limits, 0), Refusal))
        at.now += 660_000

    assert [True, True, False] == refused
    assert 1 == (await row_of(at))["open"]


class TestFaults:
    """The counters when calls fail in any way: each request counts once."""

    @pytest.fixture
    async def faulty(self, aws: str) -> AsyncIterator[tuple[At, InjectingProxy, str]]:
        async with opened(aws) as seams:
            table: str = seams.rate_counters._table.name
            proxy = InjectingProxy(aws, random.Random(1))
            async with proxy.serving() as url, AwsClient("us-east-1", url) as client:
                yield At(DynamoRateCounters(client, table)), proxy, table.rpartition("-")[2]

    @pytest.mark.parametrize("fault", FAULTS)
    async def test_what_is_reserved_and_given_back_over_faults_counts_once(
        self, faulty: tuple[At, InjectingProxy, str], fault: Fault
    ) -> None:
        at, proxy, table = faulty
        counted = rate_counters(at)
        bends = [Bend(f"{table} {step}", fault) for step in ("reserve", "close reservation")]
        proxy.bends += bends

        reservation = await counted.reserve(KEY, Limits(concurrent_requests=3), 10)
        assert isinstance(reservation, Reservation)
        held = await row_of(at)
        await counted.settle(reservation, 4)
        settled = await row_of(at)

        assert all(bend.done.is_set() for bend in bends)
        assert (1, 10, 1) == (held["requests"], held["tokens"], held["open"])
        assert (1, 4, 0) == (settled["requests"], settled["tokens"], settled["open"])


async def test_tokens_used_already_count_into_their_day_and_into_nothing_else(at: At) -> None:
    counters, limits = rate_counters(at), Limits(tokens_per_day=100, requests_per_minute=9)
    await counters.charge(KEY, 40)
    await counters.charge(KEY, 50)

    held = await counters.reserve(KEY, limits, 5)
    assert isinstance(held, Reservation)
    assert (held.counters.day_tokens, held.counters.requests, held.counters.tokens) == (95, 1, 5)
    await counters.charge(KEY, 40)
    assert isinstance(await counters.reserve(KEY, limits, 1), Refusal)

    at.now += 86_400_000
    await counters.charge(KEY, 99)
    assert isinstance(await counters.reserve(KEY, limits, 1), Reservation)
    assert isinstance(await counters.reserve(KEY, limits, 1), Refusal)
