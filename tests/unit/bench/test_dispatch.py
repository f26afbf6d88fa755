"""The ideal queue and the traces that dispatch is measured by, and a short look at dispatch."""

from __future__ import annotations

import json
from statistics import mean

import pytest

from bench.dispatch.dispatch import FLEET, tell
from bench.dispatch.line import simulate
from bench.dispatch.tables import AWARE, IDEAL, INDIFFERENT, MAIN, Times, pooled, samples
from bench.dispatch.trace import Fate, Host, Request, Trace, ideal, make
from bench.harness.stats import percentile
from bench.report import Table

FAST, SLOW = Host(1, 10.0), Host(1, 5.0)


def trace(*requests: tuple[float, int]) -> Trace:
    return Trace(fleet=(SLOW, FAST), requests=tuple(Request(*one) for one in requests), seconds=9)


def test_the_ideal_queue_takes_the_fastest_free_slot() -> None:
    assert ideal(trace((0, 10))) == [Fate(0, 1.0, 1)]


def test_the_ideal_queue_takes_a_slow_slot_rather_than_wait() -> None:
    assert ideal(trace((0, 10), (0.5, 10))) == [Fate(0, 1.0, 1), Fate(0, 2.0, 0)]


def test_the_ideal_queue_begins_who_came_first_the_moment_a_slot_is_free() -> None:
    fates = ideal(trace((0, 10), (0, 10), (0.5, 10), (0.6, 10)))

    assert [Fate(0, 1.0, 1), Fate(0, 2.0, 0), Fate(0.5, 1.5, 1)] == fates[:3]
    assert pytest.approx(1.4) == fates[3].waited


@pytest.mark.parametrize("swell", [1.0, 1.5, 2.0])
def test_a_trace_asks_for_the_load_that_it_is_made_for(swell: float) -> None:
    made = make(seed=3, fleet=FLEET, load=0.8, seconds=600, swell=swell)

    capacity = sum(host.capacity for host in FLEET)
    asked = sum(request.tokens for request in made.requests)
    assert pytest.approx(0.8, rel=0.01) == asked / capacity / 600
    assert all(0 <= request.at < 600 for request in made.requests)
    assert made.requests == make(seed=3, fleet=FLEET, load=0.8, seconds=600, swell=swell).requests


def test_bursts_make_arrivals_uneven() -> None:
    def unevenness(swell: float) -> float:
        made = make(seed=3, fleet=FLEET, load=0.8, seconds=3000, swell=swell)
        counts = [0] * 300
        for request in made.requests:
            counts[int(request.at / 10)] += 1
        return sum((count - mean(counts)) ** 2 for count in counts) / sum(counts)

    assert unevenness(1.0) < 1.5 < 3 < unevenness(1.5) < unevenness(2.0)


def test_a_faster_trace_is_the_same_in_less_time() -> None:
    made = make(seed=1, fleet=FLEET, load=0.8, seconds=100)

    fates, faster = ideal(made), ideal(made.faster(5))

    assert [fate.host for fate in fates] == [fate.host for fate in faster]
    assert [pytest.approx(fate.took / 5) for fate in fates] == [fate.took for fate in faster]


def test_a_fleet_that_pulls_by_speed_does_nearly_what_an_ideal_queue_does() -> None:
    made = make(seed=2, fleet=FLEET, load=0.6, seconds=120)

    aware, calls = simulate(made, seed=2, is_aware=True)
    indifferent, _ = simulate(made, seed=2, is_aware=False)

    def on_slow(fates: list[Fate]) -> float:
        return sum(fate.host >= 5 for fate in fates) / len(fates)

    assert on_slow(aware) < on_slow(indifferent) / 2
    assert mean(fate.took for fate in aware) < 1.1 * mean(fate.took for fate in ideal(made))
    assert len(made.requests) == calls["SendMessage"] == len(aware)


def test_what_is_kept_of_times_is_right_within_a_hundredth() -> None:
    seconds = [0.0, *(0.001 * 1.3**n for n in range(40))]

    times = Times.of(samples(seconds, seconds, limit=1.0)["waited_ms"])

    assert len(seconds) == times.until[-1]
    for share in (0.5, 0.95, 0.99):
        exact = percentile(seconds, share) * 1000
        assert pytest.approx(exact, rel=0.011) == times.percentile(share)


def test_several_runs_are_pooled() -> None:
    one = samples([0.1, 3.0], [0.5, 4.0], limit=2.0) | {"calls": {"SendMessage": 2}}

    made = pooled([one, one])

    assert (2, {"SendMessage": 4}) == (made["in_time"], made["calls"])
    assert 4 == Times.of(made["took_ms"]).until[-1]


def test_tables_and_goals_are_made_of_the_raw_data() -> None:
    ideal_found, ours, theirs = (
        samples([0.0, wait], [1.0, took], limit=2.0) | {"on_slowest": 1, "calls": {"Send": 6}}
        for wait, took in ((1.0, 5.0), (1.2, 6.0), (3.0, 10.0))
    )
    ways = {IDEAL: ideal_found, AWARE: ours, INDIFFERENT: theirs}
    raw = {
        "receive_ms": {"AWS": 105.0, "emulator": 5.0},
        "limit_seconds": {"AWS": 2.0, "emulator": 0.4},
        "simulated": {MAIN: {"0.6": ways}},
        "real": {},
    }

    reached, table = tell(json.loads(json.dumps(raw)))

    assert isinstance(reached, Table)
    assert isinstance(table, Table)
    assert ["met", "met"] == [row[-1] for row in reached.rows]
    assert ["100.0 %", "100.0 %", "50.0 %"] == [row[6] for row in table.rows]
    assert ["0.50", "0.60", "1.00"] == [row[10] for row in table.rows]
    assert ["3.00"] * 3 == [row[12] for row in table.rows]
