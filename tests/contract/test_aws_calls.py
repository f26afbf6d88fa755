"""The AWS client against emulators, which others wrote."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import uuid4

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from inferline.aws.api.client import AwsClient
from inferline.aws.api.credentials import StaticCredentials
from inferline.aws.api.items import from_item, to_item
from tests.support.emulators import COMMANDS, running

KEYS = StaticCredentials("test", "test")


@pytest.fixture(scope="module", params=sorted(COMMANDS))
def aws(request: pytest.FixtureRequest) -> Iterator[str]:
    """Start each emulator in turn."""
    with running(request.param) as url:
        yield url


class Strict(NamedTuple):
    """An emulator that checks signatures, and the keys of someone who may do anything there."""

    url: str
    key: str
    secret: str


@pytest.fixture(scope="module")
def strict_aws() -> Iterator[Strict]:
    with running("ministack", "--strict") as url:
        # Only the keys that it made itself are checked.
        iam = boto3.client("iam", "us-east-1", endpoint_url=url)
        iam.create_user(UserName="someone")
        anything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [anything]})
        iam.put_user_policy(UserName="someone", PolicyName="all", PolicyDocument=policy)
        made = iam.create_access_key(UserName="someone")["AccessKey"]
        yield Strict(url, made["AccessKeyId"], made["SecretAccessKey"])


def opened_strictly(aws: Strict, wrong_by: float = 0.0) -> AwsClient:
    return opened(aws.url, StaticCredentials(aws.key, aws.secret), wrong_by)


def opened(url: str, credentials: StaticCredentials = KEYS, wrong_by: float = 0.0) -> AwsClient:
    return AwsClient("us-east-1", url, credentials, wall=lambda: time.time() + wrong_by)


async def queue_of(client: AwsClient) -> str:
    answer = await client.call("sqs", "CreateQueue", {"QueueName": f"calls-{uuid4()}"})
    return str(answer["QueueUrl"])


async def table_of(client: AwsClient) -> str:
    name = f"calls-{uuid4()}"
    table = {
        "TableName": name,
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "BillingMode": "PAY_PER_REQUEST",
    }
    await client.call("dynamodb", "CreateTable", table)
    return name


def put_if_new(table: str, **values: Any) -> dict[str, Any]:
    return {
        "TableName": table,
        "Item": to_item(values),
        "ConditionExpression": "attribute_not_exists(pk)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


async def test_a_message_goes_out_and_comes_back(aws: str) -> None:
    async with opened(aws) as client:
        queue = await queue_of(client)
        await client.call("sqs", "SendMessage", {"QueueUrl": queue, "MessageBody": "hello"})
        received = await client.call("sqs", "ReceiveMessage", {"QueueUrl": queue})
        [message] = received["Messages"]
        receipt = {"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]}

        assert message["Body"] == "hello"
        assert await client.call("sqs", "DeleteMessage", receipt) == {}


async def test_an_item_comes_back_as_it_was_put(aws: str) -> None:
    item = {"pk": "a", "n": -5, "ü": "ß\n\U0001f600", "b": bytes(256), "l": [None, True, {"x": []}]}
    async with opened(aws) as client:
        table = await table_of(client)
        await client.call("dynamodb", "PutItem", put_if_new(table, **item))
        key = {"TableName": table, "Key": to_item({"pk": "a"})}

        assert from_item((await client.call("dynamodb", "GetItem", key))["Item"]) == item


async def test_a_refused_condition_shows_the_item_that_is_there(aws: str) -> None:
    async with opened(aws) as client:
        table = await table_of(client)
        await client.call("dynamodb", "PutItem", put_if_new(table, pk="a", owner="first"))

        with pytest.raises(ClientError) as raised:
            await client.call("dynamodb", "PutItem", put_if_new(table, pk="a", owner="second"))

    response: Any = raised.value.response
    assert response["Error"]["Code"] == "ConditionalCheckFailedException"
    assert from_item(response["Item"]) == {"pk": "a", "owner": "first"}


async def test_a_cancelled_transaction_tells_each_reason(aws: str) -> None:
    async with opened(aws) as client:
        table = await table_of(client)
        await client.call("dynamodb", "PutItem", put_if_new(table, pk="a"))
        puts = [{"Put": put_if_new(table, pk=pk)} for pk in ("a", "b")]

        with pytest.raises(ClientError) as raised:
            await client.call("dynamodb", "TransactWriteItems", {"TransactItems": puts})

    response: Any = raised.value.response
    assert response["Error"]["Code"] == "TransactionCanceledException"
    codes = [reason["Code"] for reason in response["CancellationReasons"]]
    assert codes == ["ConditionalCheckFailed", "None"]


async def test_what_is_not_there_has_a_name(aws: str) -> None:
    async with opened(aws) as client:
        queue = await queue_of(client)
        missing: list[tuple[str, Any]] = [
            ("QueueDoesNotExist", client.call("sqs", "ReceiveMessage", {"QueueUrl": f"{queue}x"})),
            (
                "ResourceNotFoundException",
                client.call(
                    "dynamodb", "GetItem", {"TableName": "none", "Key": {"pk": {"S": "a"}}}
                ),
            ),
            ("NoSuchBucket", client.s3("GET", "no-such-bucket", "key")),
        ]
        for name, call in missing:
            with pytest.raises(ClientError) as raised:
                await call
            assert raised.value.response["Error"]["Code"] == name


@pytest.mark.parametrize("key", ["plain", "model-1/task", "a b/ü+%25&?#=~", "../dots/./and//more"])
async def test_an_object_comes_back_from_any_key(aws: str, key: str) -> None:
    bucket, body = f"calls-{uuid4()}", bytes(range(256)) * 1000
    async with opened(aws) as client:
        await client.s3("PUT", bucket, "")
        await client.s3("PUT", bucket, key, body, encryption="AES256")
        read_body = await client.s3("GET", bucket, key)
        await client.s3("DELETE", bucket, key)

        assert read_body == body
        with pytest.raises(ClientError, match="NoSuchKey"):
            await client.s3("GET", bucket, key)


async def test_its_time_is_the_servers(aws: str) -> None:
    async with opened(aws, wrong_by=-86_400) as client:
        await client.call("sqs", "ListQueues", {})

        assert abs(client.now_ms() / 1000 - time.time()) < 1.5


async def test_its_signatures_hold(strict_aws: Strict) -> None:
    bucket = f"calls-{uuid4()}"
    async with opened_strictly(strict_aws) as client:
        queue, table = await queue_of(client), await table_of(client)
        await client.call("sqs", "SendMessage", {"QueueUrl": queue, "MessageBody": "ü"})
        await client.call("dynamodb", "PutItem", put_if_new(table, pk="ü"))
        await client.s3("PUT", bucket, "")
        await client.s3("PUT", bucket, "a b/ü+%", b"body", encryption="AES256")

        assert await client.s3("GET", bucket, "a b/ü+%") == b"body"
        assert set(client.calls.values()) == {1, 2}


async def test_a_presigned_address_is_what_was_signed(strict_aws: Strict) -> None:
    bucket, query = f"calls-{uuid4()}", {"response-content-disposition": "attachment; a='ä b'"}
    async with opened_strictly(strict_aws) as client, httpx.AsyncClient() as anybody:
        await client.s3("PUT", bucket, "")
        await client.s3("PUT", bucket, "a b/ü+%", b"body")
        url = await client.presigned_url(bucket, "a b/ü+%", query, 60)

        right = await anybody.get(url)
        wrong = await anybody.get(url[:-1] + ("0" if url[-1] != "0" else "1"))

    assert (200, b"body") == (right.status_code, right.content)
    assert 403 == wrong.status_code


async def test_a_wrong_secret_is_refused_at_once(strict_aws: Strict) -> None:
    async with opened(strict_aws.url, StaticCredentials(strict_aws.key, "wrong")) as client:
        with pytest.raises(ClientError, match="Signature"):
            await client.call("sqs", "ListQueues", {})

        assert client.calls["sqs", "ListQueues"] == 1


@pytest.mark.parametrize("minutes", [-20, 20, 60 * 24 * 365])
async def test_a_host_whose_clock_is_wrong_is_served(strict_aws: Strict, minutes: int) -> None:
    async with opened_strictly(strict_aws, wrong_by=minutes * 60) as client:
        await client.call("dynamodb", "ListTables", {})
        await client.call("sqs", "ListQueues", {})

        assert client.calls == {("dynamodb", "ListTables"): 2, ("sqs", "ListQueues"): 1}


async def test_an_object_may_be_the_first_call_of_a_wrong_clock(strict_aws: Strict) -> None:
    async with opened_strictly(strict_aws, wrong_by=-1200) as client:
        await client.s3("PUT", f"calls-{uuid4()}", "")

        assert client.calls == {("s3", "PutObject"): 2}
