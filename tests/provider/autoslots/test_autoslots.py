"""A whole provider in virtual time, with a scripted engine and work that waits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from bench.autoslots.engine import queueing
from bench.autoslots.line import MODEL, Line, simulate
from inferline.fleet.enrolment import Faster
from inferline_provider.membership import REPORT_FACTOR


def provided(seconds: float, **line: Any) -> Line:
    """Return a line with a knee of 12, after it has run."""
    given = {"shape": queueing(12), "seed": 2, "slots": None, "first_token_seconds": 3.0}
    return simulate(lambda: Line(**given | line), seconds, seed=2)


def test_a_provider_without_a_number_of_slots_finds_one() -> None:
    line = provided(180)

    assert 1 == line.limits[0][1]
    assert 12 <= line.limits[-1][1] <= 15
    assert 50 < sum(made for at, made in line.engine.made.items() if at >= 120) / 60


def test_it_finds_as_many_under_backlog_though_others_are_faster() -> None:
    line = provided(180, faster={MODEL: Faster(times=4, fellows=2)})

    assert 12 <= line.limits[-1][1] <= 15
    assert 50 < sum(made for at, made in line.engine.made.items() if at >= 120) / 60


def test_a_number_that_is_set_stays() -> None:
    line = provided(60, slots=5)

    assert {5} == {limit for at, limit in line.limits if at}


def test_the_gateway_hears_of_many_more_or_fewer_slots_at_once() -> None:
    line = provided(40)

    leaps = [
        (at, after)
        for (_, before), (at, after) in pairwise(line.limits)
        if not before / REPORT_FACTOR < after < before * REPORT_FACTOR
    ]
    assert 5 <= len(leaps)
    for moment, slots in leaps:
        assert slots in [
            enrolment.slots for at, enrolment in line.door.enrolments if 0 <= at - moment + 0.1 < 1
        ]


def test_trials_nearby_are_told_with_the_next_heartbeat() -> None:
    line = provided(300)

    trials = [slots for at, slots in line.limits if at > 150]
    heartbeats = [at for at, _ in line.door.enrolments if at > 150]
    assert 4 <= len(trials)
    assert 150 / 12 < len(heartbeats) < 150 / 8
