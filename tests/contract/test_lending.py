"""The rights of a provider's credentials, on an emulator that checks rights as AWS does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import boto3
import pytest
from botocore.exceptions import ClientError

from inferline.aws.api.client import AwsClient
from inferline.aws.api.credentials import StaticCredentials
from inferline.aws.lending import RoleLender
from inferline.aws.provision import provision
from inferline.aws.sqs import SqsQueueMaker
from inferline.fleet.registry import Model
from inferline.settings import Settings
from tests.support.emulators import running

ANYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}
#: As the stack's own role has it; a session's policy names no bucket.
NO_BODY = {
    "Effect": "Deny",
    "Action": "s3:PutObject",
    "Resource": "arn:aws:s3:::inferline-bodies/*",
}


@asynccontextmanager
async def lent() -> AsyncIterator[tuple[AwsClient, Settings, Model, Model]]:
    """Open a client with credentials for the first of two models."""
    with running("ministack", "--strict") as url:
        settings = Settings(endpoint_url=url, provider_role=await asyncio.to_thread(role, url))
        async with AwsClient(settings.region, url, StaticCredentials("test", "test")) as client:
            await provision(client, settings)
            maker = SqsQueueMaker(client, settings)
            own, other = [Model(id=name, queues=await maker.make(name)) for name in ("own", "b")]
            lent = await RoleLender(client, settings).lend("p1", [own])
        source = StaticCredentials(lent.access_key, lent.secret_key, lent.token)
        async with AwsClient(settings.region, url, source) as client:
            yield client, settings, own, other


def role(url: str) -> str:
    """
    Make a role that may do anything but write bodies: its sessions' policies limit them further.
    """
    iam = boto3.client("iam", "us-east-1", endpoint_url=url)
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    statements = [trust], [ANYTHING, NO_BODY]
    documents = [json.dumps({"Version": "2012-10-17", "Statement": s}) for s in statements]
    made = iam.create_role(RoleName="p", AssumeRolePolicyDocument=documents[0])["Role"]
    iam.put_role_policy(RoleName="p", PolicyName="all", PolicyDocument=documents[1])
    return str(made["Arn"])


async def denied(calls: list[Awaitable[object]]) -> list[bool]:
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, ClientError):
            assert "AccessDenied" in answer.response["Error"]["Code"]
        else:
            assert not isinstance(answer, BaseException), answer
    return [isinstance(answer, ClientError) for answer in answers]


async def test_a_provider_does_its_own_models_work_and_no_other() -> None:
    async with lent() as (client, settings, own, other):

        def work(model: Model) -> list[Awaitable[object]]:
            queue = {"QueueUrl": model.queues["default"]}
            key = {"pk": {"S": f"{model.slug}#1"}, "sk": {"S": "STATE"}}
            table = settings.tasks_table
            return [
                client.call("sqs", "ReceiveMessage", {**queue, "WaitTimeSeconds": 0}),
                client.call("dynamodb", "BatchGetItem", {"RequestItems": {table: {"Keys": [key]}}}),
                client.call("dynamodb", "UpdateItem", {"TableName": table, "Key": key}),
            ]

        assert [False, False, False] == await denied(work(own))
        assert [True, True, True] == await denied(work(other))


async def test_a_provider_sends_scans_and_makes_nothing() -> None:
    async with lent() as (client, settings, own, other):
        queue = {"QueueUrl": own.queues["default"]}
        calls: list[Awaitable[object]] = [
            client.call("sqs", "SendMessage", {**queue, "MessageBody": "x"}),
            client.call("sqs", "PurgeQueue", queue),
            client.call("sqs", "CreateQueue", {"QueueName": "another"}),
            client.call("dynamodb", "Scan", {"TableName": settings.tasks_table}),
            client.call("dynamodb", "Scan", {"TableName": settings.registry_table}),
            client.s3("PUT", settings.bodies_bucket, f"{own.slug}/x", b"x"),
            client.s3("PUT", settings.files_bucket, f"{other.slug}/x", b"x"),
            client.s3("DELETE", settings.files_bucket, f"{own.slug}/x"),
        ]

        assert [True] * len(calls) == await denied(calls)


@pytest.mark.parametrize("kind", ["same", "other"])
async def test_bodies_are_read_under_the_models_own_prefix(kind: str) -> None:
    async with lent() as (client, settings, own, other):
        slug = (own if kind == "same" else other).slug
        try:
            await client.s3("GET", settings.bodies_bucket, f"{slug}/x")
        except ClientError as error:
            code = error.response["Error"]["Code"]

        assert code == ("NoSuchKey" if kind == "same" else "AccessDenied")


async def test_a_batchs_lines_are_read_and_its_results_written_under_the_models_own_prefix() -> (
    None
):
    async with lent() as (client, settings, own, other):
        await client.s3("PUT", settings.files_bucket, f"{own.slug}/b/0/0-0.output.jsonl", b"{}")

        key = f"{other.slug}/b/0/lines.jsonl"
        assert [True] == await denied([client.s3("GET", settings.files_bucket, key)])
