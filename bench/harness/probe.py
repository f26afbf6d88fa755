"""
What the emulator alone takes for the calls that a request waits for: its share of a latency can be
told from InferLine's, and it shows whether an emulator that is to be as late as AWS is so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bench.harness.distance import DYNAMODB, SEND_TO_RECEIVE, SQS
from bench.harness.stats import median, percentile
from bench.report import Table
from inferline.aws.api.client import AwsClient
from inferline.aws.api.credentials import StaticCredentials

#: By what was done: milliseconds.
Times = dict[str, list[float]]

SENT_TO_RECEIVED = "message: sent until received by a waiting poll"
SEND = "SendMessage: its answer"
RECEIVE = "ReceiveMessage: one that waits in the queue"
DELETE = "DeleteMessage"
PUT = "PutItem: the task's row"
CLAIM = "UpdateItem: the claim"
CHUNK = "BatchWriteItem: the first chunk"
LOOK = "BatchGetItem: row and chunk"

#: What stands between a request and its first token, in this order.
PATH_TO_FIRST_TOKEN = (PUT, SENT_TO_RECEIVED, CLAIM, CHUNK, LOOK)
#: What an emulator with `--far` is to reach.
WANTED = {
    SENT_TO_RECEIVED: SEND_TO_RECEIVE,
    **dict.fromkeys((SEND, RECEIVE, DELETE), SQS),
    **dict.fromkeys((PUT, CLAIM, CHUNK, LOOK), DYNAMODB),
}

#: Between two tries: a poll has to be waiting, and the CPU to be idle, as in a request alone.
PAUSE_SECONDS = 0.02
#: Until what was sent can be received, also from an emulator that is as late as AWS.
SETTLE_SECONDS = 0.3
#: So many tries go on at once where an emulator mostly waits; alone, one after another.
LANES_FAR = 4
ROW = {"text": {"S": "x" * 600}}


async def probe(url: str, tries: int, *, far: bool = False) -> Times:
    """Make each call ``tries`` times, on queues and tables of its own."""
    lanes = LANES_FAR if far else 1
    async with AwsClient("us-east-1", url, StaticCredentials("test", "test")) as client:
        each = [_lane(client, number, -(-tries // lanes)) for number in range(lanes)]
        times = merged(await asyncio.gather(*each))
        return {what: [round(ms, 2) for ms in samples] for what, samples in times.items()}


async def _lane(client: AwsClient, number: int, tries: int) -> Times:
    name = f"bench-probe-{time.time_ns()}-{number}"
    queue = (await client.call("sqs", "CreateQueue", {"QueueName": name}))["QueueUrl"]
    await _make_table(client, name)
    times: Times = {SENT_TO_RECEIVED: [], SEND: []}
    for _ in range(tries):
        received, answered = await _sent_to_received(client, queue)
        times[SENT_TO_RECEIVED].append(received)
        times[SEND].append(answered)
    times |= await _receives(client, queue, tries)
    for turn in range(tries):
        for what, operation, request in _calls(name, f"task#{turn}"):
            await asyncio.sleep(PAUSE_SECONDS / 4)
            call = client.call("dynamodb", operation, request)
            times.setdefault(what, []).append(await _ms(lambda call=call: call))
    return times


def merged(probes: Sequence[Times]) -> Times:
    """Merge several probes into one."""
    sums: Times = {}
    for times in probes:
        for what, samples in times.items():
            sums.setdefault(what, []).extend(samples)
    return sums


def to_first_token(times: Times) -> float:
    """Return the emulator's median share of the time to a first token, milliseconds."""
    return sum(median(times[what]) for what in PATH_TO_FIRST_TOKEN)


def table(name: str, times: Times, *, far: bool = False) -> Table:
    """
    Return what was found, beside what it should be where the emulator is to be as late as AWS.
    """
    shares = (0.5, 0.9, 0.99)
    rows = []
    for what, samples in times.items():
        cells = [f"{percentile(samples, share):.1f}" for share in shares]
        if far:
            cells += [" / ".join(f"{WANTED[what][share] * 1000:g}" for share in shares)]
        on_path = "yes" if what in PATH_TO_FIRST_TOKEN else "no"
        rows.append([what, *cells, str(len(samples)), on_path])
    head = ["call", "p50", "p90", "p99", *(["injected"] if far else [])]
    return Table(
        f"The emulator of {name}, measured alone before and after the rest; milliseconds",
        [*head, "calls", "before the first token"],
        rows,
    )


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


async def _take(client: AwsClient, queue: str, wait_seconds: int) -> tuple[float, str]:
    """Return when one message was received, and its receipt."""
    request = {"QueueUrl": queue, "MaxNumberOfMessages": 1, "WaitTimeSeconds": wait_seconds}
    answer = await client.call("sqs", "ReceiveMessage", request)
    received = time.perf_counter()
    (message,) = answer["Messages"]
    return received, str(message["ReceiptHandle"])


async def _delete(client: AwsClient, queue: str, receipt: str) -> None:
    await client.call("sqs", "DeleteMessage", {"QueueUrl": queue, "ReceiptHandle": receipt})


async def _sent_to_received(client: AwsClient, queue: str) -> tuple[float, float]:
    poll = asyncio.create_task(_take(client, queue, 5))
    await asyncio.sleep(PAUSE_SECONDS)
    sent = time.perf_counter()
    await client.call("sqs", "SendMessage", _message(queue))
    answered = time.perf_counter()
    received, receipt = await poll
    await _delete(client, queue, receipt)
    return (received - sent) * 1000, (answered - sent) * 1000


async def _receives(client: AwsClient, queue: str, tries: int) -> Times:
    """Take messages that wait in the queue, one after another."""
    for _ in range(tries):
        await client.call("sqs", "SendMessage", _message(queue))
    await asyncio.sleep(SETTLE_SECONDS)
    times: Times = {RECEIVE: [], DELETE: []}
    for _ in range(tries):
        await asyncio.sleep(PAUSE_SECONDS / 4)
        asked = time.perf_counter()
        received, receipt = await _take(client, queue, 0)
        times[RECEIVE].append((received - asked) * 1000)
        deletion = _delete(client, queue, receipt)
        times[DELETE].append(await _ms(lambda deletion=deletion: deletion))
    return times


def _calls(table: str, pk: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the calls of a request to the table, with rows of about their real size."""
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
