"""
Makes the tables, the bucket and the dead-letter queue where CloudFormation does not: on an
emulator.

Every step is idempotent, so that any number of processes may run it.
"""

from __future__ import annotations

from typing import Any, Final

from botocore.exceptions import ClientError

from inferline.aws.client import AwsClient
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
    for table in (settings.tasks_table, settings.registry_table):
        await _make_table(client, table)
    await _there(client.s3("PUT", settings.bodies_bucket, ""))
    await SqsQueueMaker(client, settings.stack, settings.lease_seconds).make_dead_letters()


async def _make_table(client: AwsClient, table: str) -> None:
    names = ("pk", "sk")
    create = {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": n, "AttributeType": "S"} for n in names],
        "KeySchema": [
            {"AttributeName": n, "KeyType": kind}
            for n, kind in zip(names, ("HASH", "RANGE"), strict=True)
        ],
    }
    await _there(client.call("dynamodb", "CreateTable", create))
    ttl = {"Enabled": True, "AttributeName": "ttl"}
    request = {"TableName": table, "TimeToLiveSpecification": ttl}
    await _there(client.call("dynamodb", "UpdateTimeToLive", request))


async def _there(step: Any) -> None:
    try:
        await step
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _THERE:
            raise
