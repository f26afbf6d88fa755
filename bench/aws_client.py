"""
What a call to AWS costs its caller: InferLine's client, aiobotocore and boto3 on one emulator.

    python -m bench.aws_client [--calls 2000] [--endpoint URL]

CPU is that of this process, the client's, alone; calls per second also depend on the emulator,
which shares the machine. A client that is not installed is left out. aiobotocore is no dependency
of this project; to have it measured, run this from an environment of its own:

    python -m venv other && other/bin/pip install aiobotocore==3.9.2 boto3==1.43.106 aiohttp
    PYTHONPATH=. other/bin/python -m bench.aws_client --endpoint http://127.0.0.1:4566
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from inferline.aws.client import AwsClient
from inferline.aws.credentials import StaticCredentials

REGION = "us-east-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
CONCURRENCIES = (1, 32)
WARM_UP_CALLS = 200

Job = tuple[str, str, dict[str, Any]]
#: Makes so many calls (less what does not divide evenly), so many at once.
Load = Callable[[Job, int, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Cost:
    cpu_ms: float
    calls_per_second: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a call to AWS costs its caller.")
    parser.add_argument("--calls", type=int, default=2000, help="per figure (%(default)s)")
    parser.add_argument("--endpoint", help="an emulator that runs already; else one is started")
    options = parser.parse_args()
    with emulator(options.endpoint) as endpoint:
        asyncio.run(report(endpoint, options.calls))


async def report(endpoint: str, calls: int) -> None:
    jobs = await prepare(endpoint)
    costs: dict[str, dict[tuple[str, int], Cost]] = {}
    for name, opened in {"InferLine": lean, "aiobotocore": aiobotocore, "boto3": boto3}.items():
        try:
            async with opened(endpoint) as load:
                costs[name] = await measure(load, jobs, calls)
        except ModuleNotFoundError as missing:
            print(f"{name}: left out, {missing}", file=sys.stderr)
    print_table(costs, jobs)


async def measure(load: Load, jobs: list[Job], calls: int) -> dict[tuple[str, int], Cost]:
    found = {}
    for job in jobs:
        for concurrency in CONCURRENCIES:
            await load(job, WARM_UP_CALLS, concurrency)
            cpu, wall = time.process_time(), time.perf_counter()
            await load(job, calls, concurrency)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            made = calls // concurrency * concurrency
            found[job[1], concurrency] = Cost(cpu / made * 1000, made / wall)
    return found


def print_table(costs: dict[str, dict[tuple[str, int], Cost]], jobs: list[Job]) -> None:
    print("| CPU ms a call (calls/s) | at once | " + " | ".join(costs) + " |")
    print("|---" * (2 + len(costs)) + "|")
    for _, operation, _ in jobs:
        for concurrency in CONCURRENCIES:
            own = costs["InferLine"][operation, concurrency].cpu_ms
            cells = []
            for cost in (each[operation, concurrency] for each in costs.values()):
                ratio = "" if cost.cpu_ms == own else f" = {cost.cpu_ms / own:.1f}x"
                cells.append(f"{cost.cpu_ms:.2f}{ratio} ({cost.calls_per_second:.0f})")
            print(f"| {operation} | {concurrency} | " + " | ".join(cells) + " |")


async def prepare(endpoint: str) -> list[Job]:
    """A queue, a table and an item of 1 KB; gives the calls to be measured."""
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
    """In threads, since it blocks."""
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


@contextmanager
def emulator(endpoint: str | None) -> Iterator[str]:
    if endpoint is not None:
        yield endpoint
        return
    print(f"MiniStack {importlib.metadata.version('ministack')}", file=sys.stderr)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "inferline.local.emulator", "--port", str(port)]
    process = subprocess.Popen(command)
    try:
        while process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
