"""The functions that no client calls, under Lambda's own runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from inferline.aws.api.items import to_item
from inferline.aws.dynamodb.rate_counters import DynamoRateCounters
from inferline.aws.dynamodb.task_rows import STATE_KEY, end_attributes, row_key
from inferline.aws.files.batches import DynamoBatches
from inferline.aws.files.files import DynamoFiles
from inferline.aws.s3 import S3Objects
from inferline.tasks.queue import Message
from inferline.tasks.task import State, Task
from inferline.usage.usage import HOUR, SLICE_MS, UsageKey, Watermarks
from tests.support import batches
from tests.support.cloud import CANARY, MODEL, Cloud, invoked, metrics, recorded
from tests.support.runtime_api import Function
from tests.support.seams import new_task


async def submitted(cloud: Cloud, **fields: Any) -> Task:
    task = new_task(cloud.store, model=MODEL, **fields)
    await cloud.store.submit(task)
    return task


def letters(*texts: str) -> dict[str, Any]:
    event = recorded("sqs")
    [record] = event["Records"]
    event["Records"] = [record | {"messageId": f"m{i}", "body": t} for i, t in enumerate(texts)]
    return event


def letter(task: Task) -> str:
    return Message(ref=task.ref, body=json.dumps({"prompt": CANARY}).encode()).dumps()


async def test_dead_tasks_fail_and_only_those_that_still_run_come_again(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    dead, running, ended = [await submitted(cloud) for _ in range(3)]
    await cloud.store.claim(running.ref, "p1", 60)
    await cloud.store.cancel(ended.ref)
    texts = [CANARY, letter(dead), letter(running), letter(ended)]

    result = await invoked(function("dead_letters"), letters(*texts))

    assert {"batchItemFailures": [{"itemIdentifier": "m2"}]} == result.value
    states = await cloud.store.statuses([dead.ref, running.ref, ended.ref])
    expected = [State.FAILED, State.RUNNING, State.CANCELLED]
    assert expected == [states[task.ref][0] for task in (dead, running, ended)]


async def test_letters_come_again_while_the_store_does_not_answer(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    broken = function("dead_letters", INFERLINE_TASKS_TABLE="there-is-none")

    result = await invoked(broken, letters(letter(await submitted(cloud)), "not ours"))

    assert {"batchItemFailures": [{"itemIdentifier": "m0"}]} == result.value


async def test_the_sweep_ends_counts_and_declares(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    await cloud.know()
    overdue, waiting = await submitted(cloud, seconds=-10), await submitted(cloud)
    sweep = function("sweep", INFERLINE_MODELS="declared, test-model")

    result = await invoked(sweep, recorded("scheduled"))

    assert result.error is None
    assert result.value is None
    states = await cloud.store.statuses([overdue.ref, waiting.ref])
    assert [State.EXPIRED, State.QUEUED] == [states[t.ref][0] for t in (overdue, waiting)]
    assert {"declared", MODEL} == set((await cloud.registry.snapshot()).models)
    counts = metrics(sweep)
    expected = {"ModelsWithoutProvider": 0, "Providers": 1, "Slots": 4, "Running": 0, "Waiting": 1}
    assert {name: (value,) for name, value in expected.items()} == {n: counts[n] for n in expected}
    assert counts["OldestTaskSeconds"][0] >= 0
    assert (await cloud.minutes()).percentile("age", 1.0) is not None


async def test_the_sweep_counts_what_was_used(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    """Of a slice that has long ended, which nobody lived to see."""
    now = cloud.store.now_ms()
    number = now // SLICE_MS - 1
    await cloud.usage.advance(Watermarks(number - 12, number - 12))
    task = await submitted(cloud)
    await cloud.store.cancel(task.ref)
    await dated(cloud, task, (number - 1) * SLICE_MS)

    assert (await invoked(function("sweep"), recorded("scheduled"))).error is None

    hour, part = divmod(number - 1, HOUR.parts)
    account = UsageKey("t", "", MODEL, "")
    kept = await cloud.usage.parts(HOUR, hour, [account])
    assert (1, 1) == (kept[account][part].requests, kept[account][part].cancelled)
    assert (await cloud.usage.watermarks()).first_pass >= number


async def dated(cloud: Cloud, task: Task, ended_ms: int) -> None:
    """Have a task's end be that of another time."""
    values = end_attributes(task.ref, ended_ms)
    request = {
        "TableName": cloud.settings.tasks_table,
        "Key": row_key(task.ref, STATE_KEY),
        "UpdateExpression": "SET ended = :ended, ended_ms = :ended_ms",
        "ExpressionAttributeValues": to_item({f":{name}": v for name, v in values.items()}),
    }
    await cloud.client.call("dynamodb", "UpdateItem", request)


async def test_the_sweep_takes_a_batch_from_its_input_to_its_files(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    await cloud.know()
    client, registry = cloud.client, cloud.settings.registry_table
    stores = SimpleNamespace(
        batches=DynamoBatches(client, registry),
        files=DynamoFiles(client, registry),
        objects=S3Objects(client, cloud.settings.files_bucket),
        rate_counters=DynamoRateCounters(client, registry),
        **{
            name: getattr(cloud, name) for name in ("store", "queue", "registry", "keys", "tenants")
        },
    )
    model = (await cloud.registry.models())[MODEL]
    batch = await batches.created(
        batches.parts_on(stores), batches.jsonl([batches.line(n) for n in range(150)])
    )
    sweep, statuses = function("sweep"), []

    for _ in range(2):
        assert (await invoked(sweep, recorded("scheduled"))).error is None
        row = await stores.batches.batch(batch.tenant, batch.id)
        assert row is not None
        statuses.append(row.status)
        await batches.ScriptedProvider(stores, model).run()

    assert statuses == ["in_progress", "completed"]
    assert len(await batches.lines_of(stores, batch.tenant, row.output_file_id)) == 150
    assert "Waiting" not in metrics(sweep) or metrics(sweep)["Waiting"] == (0,)


async def test_an_idle_stack_costs_no_metrics(
    cloud: Cloud, function: Callable[..., Function]
) -> None:
    sweep = function("sweep")

    assert (await invoked(sweep, recorded("scheduled"))).error is None

    assert {} == metrics(sweep)
