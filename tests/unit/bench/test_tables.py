"""
The benchmark's tables do what DynamoDB does, and bill it by AWS's rules.

`tests/contract` runs on them as it does on every emulator.
"""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from bench.sim.expressions import holds, updated
from bench.sim.tables import PAGE_BYTES, Tables, purpose, total
from inferline.aws.api.items import to_item
from inferline.usage.usage import HOUR, SLICE_MS, Usage, UsageKey, UsageRow
from tests.support.seams import Seams, new_task, on_bench_tables


@pytest.fixture
def tables() -> Tables:
    return Tables()


@pytest.fixture
def seams(tables: Tables) -> Seams:
    return on_bench_tables(tables)


def row(pk: str = "p", sk: str = "s", **values: Any) -> dict[str, Any]:
    return to_item({"pk": pk, "sk": sk, **values})


async def call(tables: Tables, operation: str, **request: Any) -> dict[str, Any]:
    """Call the registry's table."""
    return await tables.call("dynamodb", operation, {"TableName": "registry", **request})


def billed(tables: Tables) -> tuple[float, float]:
    """Return the read and write units so far."""
    tally = total(tables.tallies.values())
    return tally.reads, tally.writes


@pytest.mark.parametrize(
    ("condition", "is_so"),
    [
        ("attribute_exists(a)", True),
        ("attribute_not_exists(a)", False),
        ("#b = :one AND a < :two", True),
        ("a = :two OR (a = :one AND NOWHERE = :one)", False),
        ("a IN (:one, :two)", True),
        ("a BETWEEN :two AND :three", False),
        ("NOWHERE < :two", False),
        ("a <> :two AND a <= :one AND a >= :one", True),
        ("c[1] < :three", True),
        ("#b = :two OR NOWHERE[0] = :one", False),
    ],
)
def test_conditions(condition: str, is_so: bool) -> None:
    values = to_item({":one": 1, ":two": 2, ":three": 3})

    assert is_so is holds(condition, {"#b": "b"}, values, to_item({"a": 1, "b": 1, "c": [3, 2]}))


def test_updates() -> None:
    expression = "SET a = :x, #b = if_not_exists(#b, :x), c = if_not_exists(c, :x), n = n + :n "
    values = to_item({":x": ["x"], ":n": 2})

    item = updated(
        f"{expression} ADD added :n REMOVE gone", {"#b": "b"}, values,
        to_item({"b": "kept", "n": 5, "gone": True, "stays": {"k": b"v"}}),
    )  # fmt: skip

    expected = {"a": ["x"], "b": "kept", "c": ["x"], "n": 7, "added": 2, "stays": {"k": b"v"}}
    assert to_item(expected) == item


def test_what_is_no_expression_of_ours_is_refused() -> None:
    with pytest.raises(ValueError, match="of ours"):
        holds("size(a) > :one [", {}, {}, {})


async def test_reads_are_billed_by_four_kilobytes_and_half_if_eventual(tables: Tables) -> None:
    await call(tables, "PutItem", Item=row(text="x" * 5000))
    _, writes = billed(tables)
    key = {"Key": row()}

    await call(tables, "GetItem", **key)
    await call(tables, "GetItem", **key, ConsistentRead=True)
    await call(tables, "GetItem", Key=row(sk="missing"))

    assert (1 + 2 + 0.5, 5) == (billed(tables)[0], writes)


async def test_a_query_is_billed_by_all_that_it_reads_and_comes_in_pages(tables: Tables) -> None:
    count = 2 * PAGE_BYTES // 31_000
    for number in range(count):
        await call(tables, "PutItem", Item=row(sk=f"{number:05}", text="x" * 30_000))
    request: dict[str, Any] = {
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": to_item({":pk": "p"}),
        "ConsistentRead": True,
    }
    count_read, pages = 0, 0

    while True:
        answer = await call(tables, "Query", **request)
        count_read, pages = count_read + len(answer["Items"]), pages + 1
        if "LastEvaluatedKey" not in answer:
            break
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    assert (count, 2) == (count_read, pages)
    assert count * 30_014 / 4096 == pytest.approx(billed(tables)[0], abs=2)


async def test_a_write_is_billed_by_the_larger_of_before_and_after(tables: Tables) -> None:
    await call(tables, "PutItem", Item=row(text="x" * 3000))
    await call(tables, "PutItem", Item=row(text="x"))
    await call(
        tables, "UpdateItem", Key=row(),
        UpdateExpression="SET #t = :t", ExpressionAttributeNames={"#t": "text"},
        ExpressionAttributeValues=to_item({":t": "y" * 1500}),
    )  # fmt: skip
    await call(tables, "DeleteItem", Key=row())

    assert 3 + 3 + 2 + 2 == billed(tables)[1]


async def test_what_a_condition_refuses_is_billed_and_changes_nothing(tables: Tables) -> None:
    await call(tables, "PutItem", Item=row(text="first"))

    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        await call(
            tables, "PutItem", Item=row(text="second"),
            ConditionExpression="attribute_not_exists(pk)",
        )  # fmt: skip

    assert 2 == billed(tables)[1]
    assert row(text="first") == (await call(tables, "GetItem", Key=row()))["Item"]


async def test_live_tasks_are_indexed_until_they_end(tables: Tables, seams: Seams) -> None:
    late, early = [new_task(seams.store, model="m", seconds=s) for s in (90, 30)]
    other = new_task(seams.store, model="other")
    for task in (late, early, other):
        await seams.store.submit(task)
    await seams.store.cancel(other.ref)

    one = await seams.store.live(early.ref.slug, 10)
    every = await seams.store.live_by_slug(10)

    assert [early.ref, late.ref] == [ref for ref, _ in one]
    assert {early.ref.slug: one} == every
    assert await seams.store.live_by_slug(1) is None


async def test_ended_tasks_are_indexed_by_the_time_of_their_end(
    tables: Tables, seams: Seams
) -> None:
    ended, live = [new_task(seams.store) for _ in range(2)]
    for task in (ended, live):
        await seams.store.submit(task)
    before = billed(tables)[1]

    await seams.store.cancel(ended.ref)

    number = seams.store.now_ms() // SLICE_MS
    assert [ended.ref.id] == [spent.task_id async for spent in seams.usage.ended(number)]
    assert 3 == billed(tables)[1] - before  # The row, and both indexes.


async def test_what_was_used_is_kept_as_on_every_emulator(seams: Seams) -> None:
    usage_key, other = UsageKey("a", "k", "m", "p"), UsageKey("b", "k", "m", "p")
    await seams.usage.put(HOUR, 7, 3, {usage_key: Usage(requests=2), other: Usage(requests=1)})

    await seams.usage.put(HOUR, 7, 3, {usage_key: Usage(requests=1), other: Usage(requests=1)})

    own = [row async for row in seams.usage.rows("a", HOUR, 7, 8)]
    every = [row async for row in seams.usage.rows(None, HOUR, 0, 9)]
    assert [UsageRow(usage_key, 7, {3: Usage(requests=2)})] == own
    assert [usage_key, other] == [row.usage_key for row in every]


async def test_calls_are_counted_by_what_they_are_made_for(tables: Tables, seams: Seams) -> None:
    for what in ("one", "other"):
        purpose.set(what)
        await seams.registry.fleet()
        await seams.registry.models()

    expected = {(what, kind) for what in ("one", "other") for kind in ("fleet", "model")}
    assert expected == tables.tallies.keys()
    assert {"GetItem": 1} == tables.tallies["one", "fleet"].calls
