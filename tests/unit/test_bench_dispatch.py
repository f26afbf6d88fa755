"""The ideal queue and the traces that dispatch is measured by, and a short look at dispatch."""

from __future__ import annotations

import random
from statistics import mean, quantiles

import pytest

from bench.dispatch import AWARE, FLEET, IDEAL, INDIFFERENT, MAIN, tell
from bench.dispatch_line import simulate
from bench.dispatch_trace import Fate, Host, Request, Trace, ideal, make
from bench.far import SEND_TO_RECEIVE, draw
from bench.report import Table

FAST, SLOW = Host(1, 10.0), Host(1, 5.0)


def trace(*requests: tuple[float, int]) -> Trace:
    return Trace(fleet=(SLOW, FAST), requests=tuple(Request(*one) for one in requests), seconds=9)


def test_the_ideal_queue_takes_the_fastest_free_slot() -> None:
    assert ideal(trace((0, 10))) == [Fate(0, 1.0, 1)]


def test_the_ideal_queue_takes_a_slow_slot_rather_than_wait() -> None:
    assert ideal(trace((0, 10), (0.5, 10))) == [Fate(0, 1.0, 1), Fate(0, 2.0, 0)]


def test_the_ideal_queue_begins_who_came_first_the_moment_a_slot_is_free() -> None:
    found = ideal(trace((0, 10), (0, 10), (0.5, 10), (0.6, 10)))

    assert [Fate(0, 1.0, 1), Fate(0, 2.0, 0), Fate(0.5, 1.5, 1)] == found[:3]
    assert pytest.approx(1.4) == found[3].waited


@pytest.mark.parametrize("swell", [1.0, 1.5, 2.0])
def test_a_trace_asks_for_the_load_that_it_is_made_for(swell: float) -> None:
    found = make(seed=3, fleet=FLEET, load=0.8, seconds=600, swell=swell)

    capacity = sum(host.capacity for host in FLEET)
    asked = sum(request.tokens for request in found.requests)
    assert pytest.approx(0.8, rel=0.01) == asked / capacity / 600
    assert all(0 <= request.at < 600 for request in found.requests)
    assert found.requests == make(seed=3, fleet=FLEET, load=0.8, seconds=600, swell=swell).requests


def test_bursts_make_arrivals_uneven() -> None:
    def unevenness(swell: float) -> float:
        found = make(seed=3, fleet=FLEET, load=0.8, seconds=3000, swell=swell)
        counts = [0] * 300
        for request in found.requests:
            counts[int(request.at / 10)] += 1
        return sum((count - mean(counts)) ** 2 for count in counts) / sum(counts)

    assert unevenness(1.0) < 1.5 < 3 < unevenness(1.5) < unevenness(2.0)


def test_a_faster_trace_is_the_same_in_less_time() -> None:
    found = make(seed=1, fleet=FLEET, load=0.8, seconds=100)

    fates, faster = ideal(found), ideal(found.faster(5))

    assert [fate.host for fate in fates] == [fate.host for fate in faster]
    assert [pytest.approx(fate.took / 5) for fate in fates] == [fate.took for fate in faster]


def test_calls_take_as_long_as_those_of_aws() -> None:
    chance = random.Random(1)

    cuts = quantiles([draw(chance, SEND_TO_RECEIVE) for _ in range(20_000)], n=100)

    assert [0.0162, 0.0338, 0.105] == [pytest.approx(cuts[at], rel=0.1) for at in (49, 89, 98)]


def test_a_fleet_that_pulls_by_speed_does_nearly_what_an_ideal_queue_does() -> None:
    found = make(seed=2, fleet=FLEET, load=0.6, seconds=120)

    aware, calls = simulate(found, seed=2, is_aware=True)
    indifferent, _ = simulate(found, seed=2, is_aware=False)

    def on_slow(fates: list[Fate]) -> float:
        return sum(fate.host >= 5 for fate in fates) / len(fates)

    assert on_slow(aware) < on_slow(indifferent) / 2
    assert mean(fate.took for fate in aware) < 1.1 * mean(fate.took for fate in ideal(found))
    assert len(found.requests) == calls["SendMessage"] == len(aware)


def test_tables_are_made_of_the_raw_data() -> None:
    ways = (AWARE, INDIFFERENT, IDEAL)
    fates = {"waited_ms": [0, 100, 3000], "took_ms": [500, 900, 5000], "on_slowest": 1}
    runs = [
        {"scene": MAIN, "load": 0.6, "seed": 1, "way": way, "calls": {"ReceiveMessage": 6}, **fates}
        for way in ways
    ]

    (table,) = tell({"simulated": runs})

    assert isinstance(table, Table)
    assert [["0.6", way, "0.10", "3.00", "3.00", "1.00"] for way in ways] == [
        list(row[:6]) for row in table.rows
    ]
