"""
What the emulator alone takes for the calls that a request waits for, so that its share of a latency
can be told from InferLine's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.stats import median
from inferline.aws.client import AwsClient
from inferline.aws.credentials import StaticCredentials

#: By what was done: milliseconds.
Times = dict[str, list[float]]

SENT_TO_RECEIVED = "message: sent until received by a waiting poll"
RECEIVE = "ReceiveMessage: one that waits in the queue"
PUT = "PutItem: the task's row"
CLAIM = "UpdateItem: the claim"
CHUNK = "BatchWriteItem: the first chunk"
LOOK = "BatchGetItem: row and chunk"

#: What stands between a request and its first token, in this order.
PATH_TO_FIRST_TOKEN = (PUT, SENT_TO_RECEIVED, CLAIM, CHUNK, LOOK)

#: Milliseconds between two tries: a poll has to be waiting, and the CPU to be idle, as in a
#: request alone.
PAUSE_SECONDS = 0.02
ROW = {"text": {"S": "x" * 600}}


async def probe(url: str, tries: int) -> Times:
    """Make each call ``tries`` times on queues and a table of its own, one at a time."""
    name = f"bench-probe-{time.time_ns()}"
    async with AwsClient("us-east-1", url, StaticCredentials("test", "test")) as client:
        made = await client.call("sqs", "CreateQueue", {"QueueName": name})
        await _make_table(client, name)
        found: Times = {SENT_TO_RECEIVED: [], RECEIVE: []}
        for _ in range(tries):
            found[SENT_TO_RECEIVED].append(await _sent_to_received(client, made["QueueUrl"]))
            found[RECEIVE].append(await _receive(client, made["QueueUrl"]))
        for number in range(tries):
            for what, operation, request in _calls(name, f"task#{number}"):
                await asyncio.sleep(PAUSE_SECONDS / 4)
                call = client.call("dynamodb", operation, request)
                found.setdefault(what, []).append(await _ms(lambda call=call: call))
        return found


def to_first_token(times: Times) -> float:
    """The emulator's median share of the time to a first token, milliseconds."""
    return sum(median(times[what]) for what in PATH_TO_FIRST_TOKEN)


async def _ms(call: Callable[[], Awaitable[Any]]) -> float:
    begun = time.perf_counter()
    await call()
    return (time.perf_counter() - begun) * 1000


async def _make_table(client: AwsClient, name: str) -> None:
    keys = {"pk": "HASH", "sk": "RANGE"}
    request = {
        "TableName": name,
        "KeySchema": [{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key in keys],
        "BillingMode": "PAY_PER_REQUEST",
    }
    await client.call("dynamodb", "CreateTable", request)


def _message(queue: str) -> dict[str, Any]:
    return {"QueueUrl": queue, "MessageBody": "x" * 400, "MessageGroupId": "bench"}


async def _take(client: AwsClient, queue: str, wait_seconds: int) -> float:
    """When one message was received."""
    request = {"QueueUrl": queue, "MaxNumberOfMessages": 1, "WaitTimeSeconds": wait_seconds}
    answer = await client.call("sqs", "ReceiveMessage", request)
    received = time.perf_counter()
    (message,) = answer["Messages"]
    gone = {"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]}
    await client.call("sqs", "DeleteMessage", gone)
    return received


async def _sent_to_received(client: AwsClient, queue: str) -> float:
    poll = asyncio.create_task(_take(client, queue, 5))
    await asyncio.sleep(PAUSE_SECONDS)
    sent = time.perf_counter()
    await client.call("sqs", "SendMessage", _message(queue))
    return (await poll - sent) * 1000


async def _receive(client: AwsClient, queue: str) -> float:
    await client.call("sqs", "SendMessage", _message(queue))
    await asyncio.sleep(PAUSE_SECONDS)
    asked = time.perf_counter()
    return (await _take(client, queue, 0) - asked) * 1000


def _calls(table: str, pk: str) -> list[tuple[str, str, dict[str, Any]]]:
    """The calls of a request to the table, with rows of about their real size."""
    key = {"pk": {"S": pk}, "sk": {"S": "STATE"}}
    chunk = {"pk": {"S": pk}, "sk": {"S": "A001#000000"}}
    claim = {
        "Key": key,
        "UpdateExpression": "SET #owner = :owner, attempt = attempt + :one",
        "ConditionExpression": "attempt < :limit",
        "ExpressionAttributeNames": {"#owner": "owner"},
        "ExpressionAttributeValues": {
            ":owner": {"S": "bench"},
            ":one": {"N": "1"},
            ":limit": {"N": "3"},
        },
        "ReturnValues": "ALL_NEW",
    }
    row = {**key, **ROW, "attempt": {"N": "0"}}
    put = {"Item": row, "ConditionExpression": "attribute_not_exists(pk)"}
    written = {"RequestItems": {table: [{"PutRequest": {"Item": {**chunk, **ROW}}}]}}
    look = {"RequestItems": {table: {"Keys": [key, chunk]}}}
    return [
        (PUT, "PutItem", {"TableName": table, **put}),
        (CLAIM, "UpdateItem", {"TableName": table, **claim}),
        (CHUNK, "BatchWriteItem", written),
        (LOOK, "BatchGetItem", look),
    ]
