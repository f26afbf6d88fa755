"""
Makes calls to AWS through one client and prints what they cost this process, as JSON.

    python -m bench.speed.aws_calls CLIENT --endpoint URL [--calls N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from inferline.aws.api.client import AwsClient
from inferline.aws.api.credentials import StaticCredentials

REGION = "us-east-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
CONCURRENCIES = (1, 32)
WARM_UP_CALLS = 200

Job = tuple[str, str, dict[str, Any]]
#: Makes so many calls (less what does not divide evenly), so many at once.
Load = Callable[[Job, int, int], Awaitable[None]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a call to AWS costs its caller.")
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("--endpoint", required=True, help="an emulator that runs already")
    parser.add_argument("--calls", type=int, default=2000, help="per figure (%(default)s)")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(measure(options.client, options.endpoint, options.calls))))


async def measure(client: str, endpoint: str, calls: int) -> list[dict[str, Any]]:
    """Return the CPU milliseconds of this process for each call, by operation and calls at once."""
    costs = []
    jobs = await prepare(endpoint)
    async with CLIENTS[client](endpoint) as load:
        for job in jobs:
            for many in CONCURRENCIES:
                await load(job, WARM_UP_CALLS, many)
                cpu, wall = time.process_time(), time.perf_counter()
                await load(job, calls, many)
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                made = calls // many * many
                one = {"cpu_ms": round(cpu / made * 1000, 4), "calls_per_second": made / wall}
                costs.append({"operation": job[1], "at_once": many, **one})
    return costs


async def prepare(endpoint: str) -> list[Job]:
    """Return a queue, a table and an item of 1 KB; gives the calls to be measured."""
    name = f"bench-{time.time_ns()}"
    async with AwsClient(REGION, endpoint, StaticCredentials("test", "test")) as client:
        queue = (await client.call("sqs", "CreateQueue", {"QueueName": name}))["QueueUrl"]
        key = {"AttributeName": "pk"}
        table = {
            "TableName": name,
            "KeySchema": [{**key, "KeyType": "HASH"}],
            "AttributeDefinitions": [{**key, "AttributeType": "S"}],
            "BillingMode": "PAY_PER_REQUEST",
        }
        await client.call("dynamodb", "CreateTable", table)
        item = {"pk": {"S": "a"}, "body": {"S": "x" * 1024}, "n": {"N": "1"}}
        await client.call("dynamodb", "PutItem", {"TableName": name, "Item": item})
    row = {"TableName": name, "Key": {"pk": {"S": "a"}}}
    change = {
        "UpdateExpression": "SET n = n + :one",
        "ConditionExpression": "n > :zero",
        "ExpressionAttributeValues": {":one": {"N": "1"}, ":zero": {"N": "0"}},
    }
    return [
        ("dynamodb", "GetItem", {**row, "ConsistentRead": True}),
        ("dynamodb", "UpdateItem", {**row, **change}),
        ("sqs", "SendMessage", {"QueueUrl": queue, "MessageBody": "x" * 1024}),
    ]


@asynccontextmanager
async def lean(endpoint: str) -> AsyncIterator[Load]:
    async with AwsClient(REGION, endpoint, StaticCredentials("test", "test")) as client:

        async def load(job: Job, calls: int, concurrency: int) -> None:
            service, operation, parameters = job
            await at_once(
                lambda: client.call(service, operation, parameters),  # type: ignore[arg-type]
                calls,
                concurrency,
            )

        yield load


@asynccontextmanager
async def aiobotocore(endpoint: str) -> AsyncIterator[Load]:
    from aiobotocore.config import AioConfig  # type: ignore[import-not-found]
    from aiobotocore.session import get_session  # type: ignore[import-not-found]
    from botocore import xform_name

    async with AsyncExitStack() as stack:
        clients = {}
        for service in ("sqs", "dynamodb"):
            config = AioConfig(max_pool_connections=max(CONCURRENCIES))
            made = get_session().create_client(
                service, REGION, endpoint_url=endpoint, config=config, **KEYS
            )
            clients[service] = await stack.enter_async_context(made)

        async def load(job: Job, calls: int, concurrency: int) -> None:
            service, operation, parameters = job
            method = getattr(clients[service], xform_name(operation))
            await at_once(lambda: method(**parameters), calls, concurrency)

        yield load


@asynccontextmanager
async def boto3(endpoint: str) -> AsyncIterator[Load]:
    """Yield boto3's calls, made in threads since they block."""
    import boto3
    from botocore import xform_name
    from botocore.config import Config

    config = Config(max_pool_connections=max(CONCURRENCIES))
    clients = {
        service: boto3.client(service, REGION, endpoint_url=endpoint, config=config, **KEYS)
        for service in ("sqs", "dynamodb")
    }

    async def load(job: Job, calls: int, concurrency: int) -> None:
        service, operation, parameters = job
        method = getattr(clients[service], xform_name(operation))

        def run() -> None:
            for _ in range(calls // concurrency):
                method(**parameters)

        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(concurrency) as pool:
            await asyncio.gather(*[loop.run_in_executor(pool, run) for _ in range(concurrency)])

    yield load


async def at_once(call: Callable[[], Awaitable[Any]], calls: int, concurrency: int) -> None:
    async def run() -> None:
        for _ in range(calls // concurrency):
            await call()

    await asyncio.gather(*[run() for _ in range(concurrency)])


CLIENTS = {"InferLine": lean, "aiobotocore": aiobotocore, "boto3": boto3}


if __name__ == "__main__":
    main()
