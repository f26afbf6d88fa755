"""The traces and the ideal queue that fairness is measured by, and a short look at fairness."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest

from bench.fairness.fairness import HEAVY, LIGHT, SHARE, scene, scenes
from bench.fairness.line import SETTLE_SECONDS, Found, simulate
from bench.fairness.tables import ALONE, IDEAL, ONE_QUEUE, OURS, Way, tell
from bench.fairness.trace import Fate, Request, Tenant, Trace, ideal, make
from bench.report import Chart, Table

FEW, MANY = Tenant("few", 0.1), Tenant("many", 10.0)


def trace(*requests: tuple[float, Tenant, float], slots: int = 1) -> Trace:
    return Trace(hosts=(slots,), requests=tuple(Request(*one) for one in requests), seconds=9)


def test_each_tenant_asks_for_its_load_whoever_else_there_is() -> None:
    both = make(seed=1, hosts=(2, 2), tenants=[FEW, MANY], seconds=2000)
    alone = make(seed=1, hosts=(2, 2), tenants=[FEW], seconds=2000)

    assert alone.requests == both.of({"few"}).requests
    for tenant in (FEW, MANY):
        asked = sum(one.service for one in both.requests if one.tenant is tenant)
        assert pytest.approx(tenant.load) == asked / (4 * 2000)
    assert sorted(both.requests, key=lambda one: one.at) == list(both.requests)


def test_the_ideal_queue_serves_the_light_tenant_at_the_next_slot() -> None:
    asked = trace((0, MANY, 5), (1, MANY, 5), (2, FEW, 1), (3, FEW, 1))

    assert {2: Fate(3, 4), 3: Fate(3, 4)} == ideal(asked, {"few"})


def test_the_ideal_queue_leaves_no_slot_idle_for_who_may_come() -> None:
    asked = trace((0, FEW, 1), (2, MANY, 5), (3, FEW, 1), (3, MANY, 1))

    assert {0: Fate(0, 1), 2: Fate(4, 5)} == ideal(asked, {"few"})


def test_the_ideal_queue_uses_every_slot() -> None:
    asked = trace((0, MANY, 5), (0, FEW, 2), (1, FEW, 2), slots=2)

    assert {1: Fate(0, 2), 2: Fate(1, 3)} == ideal(asked, {"few"})


def passed_over(asked: Trace, result: Found) -> list[int]:
    """
    Return, for each light request, how many heavy ones overtook it.
    """
    fates = [(asked.requests[number], fate) for number, fate in result.fates.items()]
    begun = [one.at + fate.waited for one, fate in fates if one.tenant.name == HEAVY]
    return [
        sum(one.at < moment < one.at + fate.waited - 0.001 for moment in begun)
        for one, fate in fates
        if one.tenant.name == LIGHT and one.at > SETTLE_SECONDS
    ]


def test_a_light_tenant_waits_for_the_next_slot_and_no_slot_is_idle_for_it() -> None:
    chosen = scene((1, 1), 0.1)
    asked = chosen.trace(seed=1, count=25)

    ours = simulate(asked, seed=1, tenant_share=SHARE, waited_for=chosen.lights)
    one_queue = simulate(asked, seed=1, tenant_share=0.0, waited_for=chosen.lights)

    over = passed_over(asked, ours)
    assert len(over) == sum(
        one.tenant.name == LIGHT and one.at > SETTLE_SECONDS for one in asked.requests
    )
    # What begins in the moment in which a message is on its way is nobody's fault.
    assert (True, True) == (max(over) <= 2, over.count(0) > 0.8 * len(over))
    assert min(passed_over(asked, one_queue)) > 10
    assert ours.work.total() > 0.98 * one_queue.work.total() > 0.95 * 2 * ours.seconds


def test_every_scene_has_a_tenant_with_a_hundred_times_the_load_of_another() -> None:
    for one in scenes(quick=False).values():
        assert {100.0} == {round(heavy.load / one.light[0].load, 6) for heavy in one.heavy}


def raw(waits: list[int], unanswered: int = 0, heavy: float = 9.0) -> dict[str, Any]:
    return {
        "waited_ms": {str(ms): 1 for ms in waits},
        "took_ms": {str(ms + 1000): 1 for ms in waits},
        "unanswered": unanswered,
        "work": {"light": 1.0, "heavy": heavy},
        "slot_seconds": 10.0,
        "answered": 10,
        "calls": {"SendMessage": 10, "ReceiveMessage": 15},
    }


def test_who_is_not_answered_counts_as_having_waited_for_ever() -> None:
    way = Way(raw([100, 200, 300], unanswered=2))

    assert [0.2, 0.3, inf] == [way.percentile("waited_ms", share) for share in (0.4, 0.6, 0.7)]
    assert "40.0 %" == way.unanswered
    assert inf == Way(raw([], unanswered=2)).percentile("took_ms", 0.5)


def test_goals_tables_and_the_chart_are_made_of_the_raw_data() -> None:
    ways = {
        ALONE: raw([0, 40]) | {"work": {"light": 1.0}},
        ONE_QUEUE: raw([500_000], unanswered=5),
        OURS: raw([0, 300], heavy=8.95),
        IDEAL: raw([0, 290]) | {"slot_seconds": 0.0, "calls": {}},
    }
    document = {"times": 100, "share": 1.0, "open_max": 9, "scenes": {"a fleet": ways}}

    reached, table, chart = tell(json.loads(json.dumps(document)))

    assert isinstance(reached, Table)
    assert isinstance(table, Table)
    assert isinstance(chart, Chart)
    assert [
        ["a fleet: waiting p95", "<= 1.5 x 0.04 s", "0.30 s (ideal 0.29 s)", "NOT MET"],
        ["a fleet: answer p95", "<= 1.5 x 1.04 s", "1.30 s (ideal 1.29 s)", "met"],
        ["a fleet: work done", ">= 0.99 x one queue", "0.995 x", "met"],
    ] == list(reached.rows)
    assert {len(table.head)} == {len(row) for row in table.rows}
    assert ["1.00", "∞", "7.50", "7.25"] == [row[5] for row in table.rows]
    assert list(ways) == list(chart.lines)
