"""The contract of every usage ledger."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from inferline.aws.api.client import AwsClient
from inferline.aws.api.items import to_item
from inferline.aws.dynamodb.task_rows import STATE_KEY, row_key
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.aws.dynamodb.usage import DynamoUsage
from inferline.aws.provision import provision
from inferline.errors import BackendFailed
from inferline.settings import Settings
from inferline.tasks.shard import Shard, shard_id
from inferline.tasks.store import AttemptOutcome, Claimed
from inferline.tasks.task import Task
from inferline.usage.usage import (
    DAY,
    HOUR,
    SLICE_MS,
    UNKNOWN,
    Resolution,
    TaskUsage,
    Usage,
    UsageKey,
    UsageRow,
    Watermarks,
)
from tests.support.seams import Seams, new_task, opened

A = UsageKey("acme", "key1", "org/m", "p1")
B = UsageKey("acme", "", "org/m", "")
C = UsageKey("acme2", "key1", "org/m", "p1")


async def submitted(seams: Seams, **fields: Any) -> Task:
    task = replace(new_task(seams.store, model="org/m"), key_id="key1", **fields)
    await seams.store.submit(task)
    return task


async def claimed(seams: Seams, **fields: Any) -> Task:
    task = await submitted(seams, **fields)
    claim = await seams.store.claim(task.ref, "p1", 30)
    assert isinstance(claim, Claimed)
    return claim.task


async def just_ended(seams: Seams) -> dict[str, TaskUsage]:
    """Read the usage of the tasks that have ended in the last minutes, by their ids."""
    newest = seams.store.now_ms() // SLICE_MS
    usages = [s for number in (newest - 1, newest) async for s in seams.usage.ended(number)]
    assert len({usage.task_id for usage in usages}) == len(usages)
    return {usage.task_id: usage for usage in usages}


async def rows(seams: Seams, tenant: str | None, grain: Resolution, *span: int) -> list[UsageRow]:
    return sorted([row async for row in seams.usage.rows(tenant, grain, *span)])


async def test_each_task_is_found_once_it_has_ended_however_it_ended(seams: Seams) -> None:
    live, running = await submitted(seams), await claimed(seams)
    done, refused, failed = [await claimed(seams) for _ in range(3)]
    cancelled, expired, buried = [await submitted(seams) for _ in range(3)]
    await seams.store.finish(done, AttemptOutcome(status=200))
    await seams.store.finish(refused, AttemptOutcome(status=429))
    await seams.store.finish(failed, AttemptOutcome(error=BackendFailed().as_dict()))
    await seams.store.cancel(cancelled.ref)
    await seams.store.expire(expired.ref)
    await seams.store.bury(buried.ref, BackendFailed().as_dict())

    ended = await just_ended(seams)

    assert {live.ref.id, running.ref.id}.isdisjoint(ended)
    expected = {
        done.ref.id: "answered",
        refused.ref.id: "refused",
        failed.ref.id: "failed",
        cancelled.ref.id: "cancelled",
        expired.ref.id: "expired",
        buried.ref.id: "failed",
    }
    assert expected == {task_id: usage.outcome for task_id, usage in ended.items()}


async def test_a_task_that_ran_out_of_attempts_or_time_at_a_claim_is_found(seams: Seams) -> None:
    exhausted, late = await claimed(seams, attempt_limit=1), await submitted(seams, deadline_ms=1)
    await seams.store.hand_back(exhausted, counts=True)

    for task in (exhausted, late):
        await seams.store.claim(task.ref, "p1", 30)

    ended = await just_ended(seams)
    assert ["failed", "expired"] == [ended[task.ref.id].outcome for task in (exhausted, late)]


async def lines_ended(seams: Seams, end: str) -> str:
    """End a shard of 100 lines, 70 of which are done if it was claimed; return its id."""
    task = new_task(seams.store, model="org/m")
    batch = f"batch_{uuid.uuid4().hex}"
    shard = Shard(batch=batch, number=1, lines=100)
    ref = replace(task.ref, id=shard_id(batch, 1, "0"))
    await seams.store.submit(replace(task, ref=ref, tier="batch", shard=shard))
    if end == "cancel unclaimed":
        await seams.store.cancel(ref)
        return ref.id
    claim = await seams.store.claim(ref, "p1", 30)
    tokens = {"prompt_tokens": 700, "completion_tokens": 90}
    shard = replace(shard, done=2**70 - 1, completed=60, failed=10, usage=tokens)
    task = replace(claim.task, shard=shard)
    if end == "finish":
        await seams.store.finish(task, AttemptOutcome(status=200))
        return ref.id
    await seams.store.renew(task, 30)
    await getattr(seams.store, end)(ref)
    return ref.id


async def test_each_line_of_a_batch_counts_as_a_request(seams: Seams) -> None:
    ids = [
        await lines_ended(seams, end) for end in ("finish", "expire", "cancel", "cancel unclaimed")
    ]

    usages = await just_ended(seams)

    done = {"answered": 60, "refused": 10}
    assert [{name: n for name, n in usages[each].requests.items() if n} for each in ids] == [
        done | {"failed": 30},
        done | {"expired": 30},
        done | {"cancelled": 30},
        {"cancelled": 100},
    ]
    assert [usages[each].input_tokens for each in ids] == [700, 700, 700, 0]
    total = Usage()
    for each in ids:
        total.note(usages[each])
    assert (total.requests, total.answered, total.cancelled) == (400, 180, 130)


async def test_what_a_task_took_is_told(seams: Seams) -> None:
    task = await submitted(seams, created_ms=seams.store.now_ms() - 5000, tenant="acme")
    claim = await seams.store.claim(task.ref, "p1", 30)
    usage = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
    await seams.store.finish(claim.task, AttemptOutcome(status=200, tail=b"{}", usage=usage))

    [spent] = (await just_ended(seams)).values()

    assert spent.usage_key == A
    assert (spent.status, spent.attempts) == (200, 1)
    assert (spent.input_tokens, spent.output_tokens) == (7, 9)
    assert 5000 <= spent.queue_ms < 15_000
    assert 0 <= spent.run_ms < 10_000


async def test_a_second_end_of_a_task_leaves_it_where_it_was(seams: Seams) -> None:
    task = await claimed(seams)
    await seams.store.finish(task, AttemptOutcome(status=200))
    before = await just_ended(seams)

    await seams.store.finish(task, AttemptOutcome(status=200))
    await seams.store.cancel(task.ref)

    assert before == await just_ended(seams)


async def test_a_part_is_kept_as_it_was_put_last(seams: Seams) -> None:
    await seams.usage.put(HOUR, 500, 3, {A: Usage(requests=1, run_ms=5), B: Usage(requests=2)})
    await seams.usage.put(HOUR, 500, 3, {A: Usage(requests=1, run_ms=6)})
    await seams.usage.put(HOUR, 500, 11, {A: Usage(requests=4)})

    kept = await seams.usage.parts(HOUR, 500, [A, B, C])

    expected = {3: Usage(requests=1, run_ms=6), 11: Usage(requests=4)}
    assert {A: expected, B: {3: Usage(requests=2)}} == kept


async def test_a_part_of_more_requests_stays(seams: Seams) -> None:
    await seams.usage.put(HOUR, 500, 3, {A: Usage(requests=2)})

    await seams.usage.put(HOUR, 500, 3, {A: Usage(requests=1, run_ms=9), B: Usage(requests=1)})

    kept = await seams.usage.parts(HOUR, 500, [A, B])
    assert {A: {3: Usage(requests=2)}, B: {3: Usage(requests=1)}} == kept


async def test_many_accounts_are_put_and_found_at_once(seams: Seams) -> None:
    many = {UsageKey("acme", "", "m", f"p{n}"): Usage(requests=n + 1) for n in range(130)}

    await seams.usage.put(DAY, 20_000, 23, many)

    kept = await seams.usage.parts(DAY, 20_000, many)
    assert {usage_key: {23: usage} for usage_key, usage in many.items()} == kept


async def test_rows_are_of_one_tenant_or_of_all_in_a_span_of_one_grain(seams: Seams) -> None:
    one = {0: Usage(requests=1)}
    for usage_key in (A, B, C):
        for number in (499, 500, 501, 502):
            await seams.usage.put(HOUR, number, 0, {usage_key: Usage(requests=1)})
        await seams.usage.put(DAY, 500, 0, {usage_key: Usage(requests=1)})
    await seams.usage.advance(Watermarks(7, 5))

    own, all_rows = await rows(seams, "acme", HOUR, 500, 502), await rows(seams, None, DAY, 0, 999)

    assert sorted(UsageRow(usage_key, n, one) for usage_key in (A, B) for n in (500, 501)) == own
    assert sorted(UsageRow(usage_key, 500, one) for usage_key in (A, B, C)) == all_rows
    assert [] == await rows(seams, "acm", HOUR, 0, 999)


async def test_counting_never_goes_back(seams: Seams) -> None:
    assert Watermarks(0, 0) == await seams.usage.watermarks()

    for progress in (
        Watermarks(first_pass=7),
        Watermarks(final_pass=5),
        Watermarks(first_pass=6, final_pass=4),
    ):
        await seams.usage.advance(progress)

    assert Watermarks(7, 5) == await seams.usage.watermarks()


@pytest.fixture
async def on_aws(aws: str) -> AsyncIterator[Seams]:
    """Open the ports on an emulator, where a provider can write values of any type."""
    async with opened(aws) as ports:
        yield ports


async def overwrite(seams: Seams, task: Task, **values: Any) -> None:
    """Write into a task's row as its provider may."""
    assert seams.client is not None
    names = {f"#{i}": name for i, name in enumerate(values)}
    request = {
        "TableName": seams.store.table,
        "Key": row_key(task.ref, STATE_KEY),
        "UpdateExpression": "SET " + ", ".join(f"#{i} = :{i}" for i in range(len(values))),
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {f":{i}": value for i, value in enumerate(values.values())},
    }
    await seams.client.call("dynamodb", "UpdateItem", request)


@pytest.mark.parametrize(
    "lie",
    [
        {"usage": {"M": {"prompt_tokens": {"N": "-5"}, "completion_tokens": {"N": "9" * 30}}}},
        {"usage": {"M": {"prompt_tokens": {"N": "1.5"}, "completion_tokens": {"S": "7"}}}},
        {"usage": {"S": "all of them"}},
        {"usage": {"NS": ["1", "2"]}},
    ],
)
async def test_false_tokens_are_not_believed(on_aws: Seams, lie: Any) -> None:
    task = await claimed(on_aws)
    await on_aws.store.finish(task, AttemptOutcome(status=200))
    await overwrite(on_aws, task, **lie)

    [spent] = (await just_ended(on_aws)).values()

    assert (spent.input_tokens, spent.output_tokens) == (0, 0)


async def test_what_a_provider_writes_into_the_other_fields_does_no_harm(on_aws: Seams) -> None:
    task = await claimed(on_aws)
    await on_aws.store.finish(task, AttemptOutcome(status=200))
    huge = {"N": "1" + "0" * 37}
    lies = {"ended_ms": huge, "claimed_ms": huge, "created_ms": {"N": "-1"}, "attempt": huge}
    names = to_item({"tenant": "a#b", "key_id": "\n", "model": "", "owner": "x" * 300})
    await overwrite(on_aws, task, **lies, **names, status={"N": "-200.5"})

    [spent] = (await just_ended(on_aws)).values()

    assert {UNKNOWN} == set(spent.usage_key)
    assert spent.ended_ms // SLICE_MS in {on_aws.store.now_ms() // SLICE_MS - n for n in (0, 1)}
    assert (spent.status, spent.attempts) == (0, 999)
    assert 0 <= spent.queue_ms + spent.run_ms <= 24 * 3600 * 1000


@pytest.mark.parametrize("state", [{"L": []}, {"S": "RUNNING"}, {"S": "\n"}, {"NULL": True}])
async def test_a_task_in_no_state_that_ends_one_is_not_counted(on_aws: Seams, state: Any) -> None:
    lying, honest = await claimed(on_aws), await claimed(on_aws)
    for task in (lying, honest):
        await on_aws.store.finish(task, AttemptOutcome(status=200))

    await overwrite(on_aws, lying, state=state)

    assert [honest.ref.id] == list(await just_ended(on_aws))


async def test_a_table_of_an_earlier_release_gets_the_index(aws: str) -> None:
    settings = Settings(stack=f"t{uuid.uuid4().hex[:8]}", endpoint_url=aws)
    async with AwsClient(settings.region, aws) as client:
        table = {
            "TableName": settings.tasks_table,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": kind}
                for name, kind in (("pk", "S"), ("sk", "S"), ("live", "S"), ("deadline_ms", "N"))
            ],
            "KeySchema": keyed("pk", "sk"),
            "GlobalSecondaryIndexes": [
                {
                    "IndexName": "live",
                    "KeySchema": keyed("live", "deadline_ms"),
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
        }
        await client.call("dynamodb", "CreateTable", table)
        for _ in range(2):
            await provision(client, settings)
        store = DynamoTaskStore(client, settings.tasks_table)
        usage = DynamoUsage(client, settings.tasks_table, settings.registry_table, days_kept=1)
        task = new_task(store)
        await store.submit(task)

        await store.cancel(task.ref)

        newest = store.now_ms() // SLICE_MS
        ended = [u for number in (newest - 1, newest) async for u in usage.ended(number)]
        assert [task.ref.id] == [u.task_id for u in ended]


def keyed(partition: str, sort: str) -> list[dict[str, str]]:
    kinds = ((partition, "HASH"), (sort, "RANGE"))
    return [{"AttributeName": name, "KeyType": kind} for name, kind in kinds]
