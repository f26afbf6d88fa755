"""
Makes tables, buckets and the dead-letter queue on an emulator, where no CloudFormation does.

Every step is idempotent, so that any number of processes may run it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from inferline.aws.api.client import AwsClient
from inferline.aws.dynamodb.task_rows import ENDED_FIELDS, ENDED_KEY, LIVE_KEY
from inferline.aws.sqs import SqsQueueMaker
from inferline.settings import Settings

#: AWS's codes for a thing that exists already.
_EXISTS: Final = frozenset(
    {
        "ResourceInUseException",
        "BucketAlreadyOwnedByYou",
        "BucketAlreadyExists",
        "ValidationException",
    }
)


async def provision(client: AwsClient, settings: Settings) -> None:
    """Make everything that a gateway needs before it can serve."""
    await _make_table(client, settings.tasks_table, **_tasks_indexes())
    await _add_index(client, settings.tasks_table)
    await _make_table(client, settings.registry_table)
    for bucket in (settings.bodies_bucket, settings.files_bucket):
        await _unless_exists(client.s3("PUT", bucket, ""))
    await SqsQueueMaker(client, settings).make_dead_letters()


async def _make_table(
    client: AwsClient,
    table: str,
    *,
    attributes: Sequence[tuple[str, str]] = (),
    indexes: Sequence[Mapping[str, Any]] = (),
) -> None:
    defined = [("pk", "S"), ("sk", "S"), *attributes]
    create = {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": n, "AttributeType": t} for n, t in defined],
        "KeySchema": _keys("pk", "sk"),
        **({"GlobalSecondaryIndexes": list(indexes)} if indexes else {}),
    }
    await _unless_exists(client.call("dynamodb", "CreateTable", create))
    ttl = {"Enabled": True, "AttributeName": "ttl"}
    request = {"TableName": table, "TimeToLiveSpecification": ttl}
    await _unless_exists(client.call("dynamodb", "UpdateTimeToLive", request))


async def _add_index(client: AwsClient, table: str) -> None:
    """Add the index of ended tasks to a table that an earlier release has made."""
    description = await client.call("dynamodb", "DescribeTable", {"TableName": table})
    indexes = description["Table"].get("GlobalSecondaryIndexes", [])
    if ENDED_KEY in {index["IndexName"] for index in indexes}:
        return
    update = {
        "TableName": table,
        "AttributeDefinitions": [{"AttributeName": ENDED_KEY, "AttributeType": "S"}],
        "GlobalSecondaryIndexUpdates": [{"Create": _ended_index()}],
    }
    await _unless_exists(client.call("dynamodb", "UpdateTable", update))


def _tasks_indexes() -> dict[str, Any]:
    """Build the index of live tasks, by model and deadline, and of ended ones, by slice of time."""
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


async def _unless_exists(step: Awaitable[object]) -> None:
    """Await a step. Ignore its failure if the thing that it makes exists already."""
    try:
        await step
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _EXISTS:
            raise
