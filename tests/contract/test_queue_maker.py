"""The attributes of new queues. Existing queues keep theirs."""

from __future__ import annotations

import json
from uuid import uuid4

from inferline.aws.api.client import AwsClient
from inferline.aws.sqs import SqsQueueMaker, dead_letter_name, queue_name
from inferline.settings import Settings
from inferline.tasks.task import QUEUE_TIERS

KEY = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000"


async def test_a_queue_is_made_encrypted_private_and_with_its_dead_letters(aws: str) -> None:
    stack = f"t{uuid4().hex[:6]}"
    async with AwsClient("us-east-1", aws) as client:
        urls = await SqsQueueMaker(client, Settings(stack=stack, kms_key=KEY)).make("org/m")

        request = {"QueueUrl": urls["default"], "AttributeNames": ["All"]}
        attributes = (await client.call("sqs", "GetQueueAttributes", request))["Attributes"]

    assert ("3600", "30") == (attributes["MessageRetentionPeriod"], attributes["VisibilityTimeout"])
    assert (KEY, "3600") == (
        attributes["KmsMasterKeyId"],
        attributes["KmsDataKeyReusePeriodSeconds"],
    )
    redrive = json.loads(attributes["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"].endswith(f":{dead_letter_name(stack)}")
    [statement] = json.loads(attributes["Policy"])["Statement"]
    assert ("Deny", attributes["QueueArn"]) == (statement["Effect"], statement["Resource"])
    assert {"Bool": {"aws:SecureTransport": "false"}} == statement["Condition"]
    assert urls["default"].endswith(queue_name(stack, "org/m", "default"))


async def test_how_long_messages_are_kept_is_a_setting(aws: str) -> None:
    stack = f"t{uuid4().hex[:6]}"
    settings = Settings(stack=stack, queue_seconds_kept=900, dead_letter_seconds_kept=1800)
    names = ("MessageRetentionPeriod",)
    async with AwsClient("us-east-1", aws) as client:
        urls = await SqsQueueMaker(client, settings).make("m")
        dead = await client.call("sqs", "GetQueueUrl", {"QueueName": dead_letter_name(stack)})

        attributes = [
            await client.call("sqs", "GetQueueAttributes", {"QueueUrl": u, "AttributeNames": names})
            for u in (urls["flex"], urls["batch"], dead["QueueUrl"])
        ]

    # A batch may wait for its window of days.
    assert ["900", "1209600", "1800"] == [
        answer["Attributes"]["MessageRetentionPeriod"] for answer in attributes
    ]


async def test_queues_that_are_there_are_looked_up_and_left_as_they_are(aws: str) -> None:
    stack = f"t{uuid4().hex[:6]}"
    async with AwsClient("us-east-1", aws) as client:
        request = {"Attributes": {"MessageRetentionPeriod": "60"}}
        for tier in QUEUE_TIERS:
            named = {"QueueName": queue_name(stack, "m", tier), **request}
            await client.call("sqs", "CreateQueue", named)
        client.calls.clear()

        urls = await SqsQueueMaker(client, Settings(stack=stack)).make("m")

        assert {("sqs", "GetQueueUrl"): 4} == client.calls
        assert set(QUEUE_TIERS) == set(urls)


async def test_only_what_is_missing_is_made(aws: str) -> None:
    stack = f"t{uuid4().hex[:6]}"
    async with AwsClient("us-east-1", aws) as client:
        maker = SqsQueueMaker(client, Settings(stack=stack))
        await maker.make_dead_letters()
        await client.call("sqs", "CreateQueue", {"QueueName": queue_name(stack, "m", "flex")})
        client.calls.clear()

        await maker.make("m")

        assert 3 == client.calls["sqs", "CreateQueue"]
