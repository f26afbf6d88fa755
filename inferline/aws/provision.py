"""
Makes the tables, the bucket and the dead-letter queue where CloudFormation does not: on an
emulator.

Every step is idempotent, so that any number of processes may run it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from inferline.aws.api.client import AwsClient
from inferline.aws.dynamodb.task_rows import ENDED_FIELDS, ENDED_KEY, LIVE_KEY
from inferline.aws.sqs import SqsQueueMaker
from inferline.settings import Settings

#: What AWS calls a thing that is there already.
_THERE: Final = frozenset(
    {
        "ResourceInUseException",
        "BucketAlreadyOwnedByYou",
        "BucketAlreadyExists",
        "ValidationException",
    }
)


async def provision(client: AwsClient, settings: Settings) -> None:
    """Make what a gateway needs before it can serve."""
    await _make_table(client, settings.tasks_table, **_tasks_indexes())
    await _add_index(client, settings.tasks_table)
    await _make_table(client, settings.registry_table)
    await _there(client.s3("PUT", settings.bodies_bucket, ""))
    await SqsQueueMaker(client, settings).make_dead_letters()


async def _make_table(
    client: AwsClient,
    table: str,
    *,
    attributes: Sequence[tuple[str, str]] = (),
    indexes: Sequence[Mapping[str, Any]] = (),
) -> None:
    every = [("pk", "S"), ("sk", "S"), *attributes]
    create = {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": n, "AttributeType": t} for n, t in every],
        "KeySchema": _keys("pk", "sk"),
        **({"GlobalSecondaryIndexes": list(indexes)} if indexes else {}),
    }
    await _there(client.call("dynamodb", "CreateTable", create))
    ttl = {"Enabled": True, "AttributeName": "ttl"}
    request = {"TableName": table, "TimeToLiveSpecification": ttl}
    await _there(client.call("dynamodb", "UpdateTimeToLive", request))


async def _add_index(client: AwsClient, table: str) -> None:
    """Add the index of ended tasks to a table that an earlier release has made."""
    there = await client.call("dynamodb", "DescribeTable", {"TableName": table})
    indexes = there["Table"].get("GlobalSecondaryIndexes", [])
    if ENDED_KEY in {index["IndexName"] for index in indexes}:
        return
    update = {
        "TableName": table,
        "AttributeDefinitions": [{"AttributeName": ENDED_KEY, "AttributeType": "S"}],
        "GlobalSecondaryIndexUpdates": [{"Create": _ended_index()}],
    }
    await _there(client.call("dynamodb", "UpdateTable", update))


def _tasks_indexes() -> dict[str, Any]:
    """The index of live tasks, by model and deadline, and that of ended ones, by slice of time."""
    live = {
        "IndexName": LIVE_KEY,
        "KeySchema": _keys(LIVE_KEY, "deadline_ms"),
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }
    attributes = [(LIVE_KEY, "S"), ("deadline_ms", "N"), (ENDED_KEY, "S")]
    return {"attributes": attributes, "indexes": [live, _ended_index()]}


def _ended_index() -> dict[str, Any]:
    return {
        "IndexName": ENDED_KEY,
        "KeySchema": _keys(ENDED_KEY),
        "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(ENDED_FIELDS)},
    }


def _keys(partition: str, *sort: str) -> list[dict[str, str]]:
    keys = [{"AttributeName": partition, "KeyType": "HASH"}]
    return keys + [{"AttributeName": name, "KeyType": "RANGE"} for name in sort]


async def _there(step: Any) -> None:
    try:
        await step
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _THERE:
            raise
