"""The bill is made of what was counted, by AWS's rules, and of what the stack declares."""

from __future__ import annotations

import pytest

from bench.costs.bill import WAITING, Bill, Counted, Plan, price_of, usd
from bench.costs.prices import MINUTES_A_MONTH, PRICES
from bench.costs.template import Declared
from bench.harness.counting import Tally, stored_by, units_of

STACK = Declared(
    memory={"inference": 0.25, "control": 0.25, "authorizer": 0.25, "sweep": 0.25},
    alarm_metrics=6,
    dashboards=1,
    keys=1,
    settings={},
)
BILL = Bill(STACK, Plan(enrol_seconds=30, queue_key_seconds=3600, metric_bytes=500))


def test_a_row_that_enters_the_index_of_live_tasks_costs_two_writes() -> None:
    row = {"pk": {"S": "m#1"}, "state": {"S": "QUEUED"}}

    without = units_of("PutItem", {"Item": row}, {})
    within = units_of("PutItem", {"Item": {**row, "live": {"S": "m"}}}, {})

    assert [(0, 1), (0, 2)] == [without, within]


def test_a_row_that_leaves_the_index_costs_two_writes() -> None:
    update = {
        "Key": {"pk": {"S": "m#1"}},
        "UpdateExpression": "SET #state = :done REMOVE #live",
        "ExpressionAttributeNames": {"#state": "state", "#live": "live"},
    }
    renewed = {**update, "UpdateExpression": "SET #state = :done"}

    assert [(0, 2), (0, 1)] == [units_of("UpdateItem", each, {}) for each in (update, renewed)]


def test_a_row_that_enters_the_index_of_ended_tasks_costs_one_more() -> None:
    update = {
        "Key": {"pk": {"S": "m#1"}},
        "UpdateExpression": "SET #state = :done, #ended = :ended REMOVE #live",
        "ExpressionAttributeNames": {"#state": "state", "#live": "live", "#ended": "ended"},
    }

    assert (0, 3) == units_of("UpdateItem", update, {})


def test_what_is_put_is_stored() -> None:
    item = {"pk": {"S": "ab"}, "data": {"B": "AAAA"}}
    batch = {"RequestItems": {"t": [{"PutRequest": {"Item": item}}] * 3}}

    assert [11, 33, 0] == [
        stored_by("PutItem", {"Item": item}),
        stored_by("BatchWriteItem", batch),
        stored_by("GetItem", {}),
    ]


def test_a_waiting_lambda_is_billed_by_its_memory_and_seconds() -> None:
    counted = Counted(seconds=20.0, answer_bytes=0, tally=Tally())

    items = dict(BILL.of_request(counted))

    assert {"lambda-requests": 1, "lambda-seconds": 5.0} == items[WAITING]
    assert PRICES["lambda-seconds"].of(5e6) == pytest.approx(66.67, abs=0.01)


def test_each_started_ten_megabytes_of_an_answer_are_a_request_of_the_api() -> None:
    sizes = (0, 10_000_000, 10_000_001)

    bills = [dict(BILL.of_request(Counted(1.0, size, Tally()))) for size in sizes]

    assert [1, 1, 2] == [bill["API Gateway"]["api"] for bill in bills]


def test_idle_nothing_costs_but_what_is_there_and_a_look_each_minute() -> None:
    month = BILL.of_month(idle=Tally(), sweep=Tally(reads=3))
    fixed = [item for item in month if not item[0].startswith("+")]

    assert MINUTES_A_MONTH * 3 == dict(fixed)["sweep, each minute"]["reads"]
    assert usd(fixed) < 6


def test_waiting_costs_by_the_answer_in_a_lambda_and_by_the_hour_elsewhere() -> None:
    one, many = (
        {name: price_of(units) for name, units in BILL.of_waiting(at_once)} for at_once in (1, 250)
    )

    assert many["Lambda"] == pytest.approx(250 * one["Lambda"])
    assert one["Lambda"] == pytest.approx(8.76, abs=0.1)  # 730 h of a quarter of a GB.
    others = [name for name in one if name != "Lambda"]
    assert [one[name] for name in others] == [many[name] for name in others]
