"""The task queue on SQS: a standard queue for each model and tier, and one for dead letters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import call, translated
from inferline.errors import InvalidRequest
from inferline.names import slug
from inferline.settings import Settings
from inferline.tasks.queue import Delivery, Depth, Message
from inferline.tasks.task import TIERS, Tier

#: SQS's limit on one batch, entries.
BATCH_MAX: Final = 10
#: A backstop, as far as SQS lets it be: attempts are counted in the row, and each hand-back of a
#: busy backend or a full provider counts as a receive too.
RECEIVES_MAX: Final = 1000
#: How long SQS uses one data key: each new one is a call of KMS that is paid for.
KEY_REUSE_SECONDS: Final = 3600
#: SQS's limit on a name, less room for a suffix.
NAME_CHARS_MAX: Final = 76


#: What SQS calls a queue that is not there: its JSON and its older protocol.
_NO_QUEUE: Final = frozenset({"QueueDoesNotExist", "NonExistentQueue"})


def queue_name(stack: str, model: str, tier: Tier) -> str:
    """The name of a model's queue: valid for any model name, and no two models share one."""
    name = f"{stack}-{slug(model)}-{tier}"
    if len(name) > NAME_CHARS_MAX:
        raise InvalidRequest(f"The stack name {stack!r} is too long: 13 characters are the most.")
    return name


def dead_letter_name(stack: str) -> str:
    """The name of the queue for messages that nobody could handle."""
    return f"{stack}-dead-letters"


class SqsQueue:
    """`TaskQueue` on SQS."""

    def __init__(self, client: AwsClient) -> None:
        self._client = client

    async def send(self, queue: str, message: Message, tenant: str) -> None:
        """Put a message on the queue; see `TaskQueue`."""
        await call(
            self._client,
            "sqs",
            "SendMessage",
            {"QueueUrl": queue, "MessageBody": message.dumps(), "MessageGroupId": tenant},
        )

    async def receive(
        self, queue: str, *, limit: int, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[Delivery]:
        """Take messages; see `TaskQueue`."""
        request = {
            "QueueUrl": queue,
            "MaxNumberOfMessages": limit,
            "WaitTimeSeconds": wait_seconds,
            "VisibilityTimeout": visibility_timeout_seconds,
            "MessageSystemAttributeNames": ["ApproximateReceiveCount", "SentTimestamp"],
        }
        answer = await call(self._client, "sqs", "ReceiveMessage", request)
        return [_delivery(queue, found) for found in answer.get("Messages", [])]

    async def change_visibility(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        """Keep the messages hidden; see `TaskQueue`."""
        await self._each("ChangeMessageVisibilityBatch", deliveries, {"VisibilityTimeout": seconds})

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        """Remove the messages; see `TaskQueue`."""
        await self._each("DeleteMessageBatch", deliveries, {})

    async def _each(
        self, operation: str, deliveries: Sequence[Delivery], extra: Mapping[str, Any]
    ) -> None:
        """
        Do one thing to many messages, ten a call.

        A batch reports failures per message and does not fail itself. What can fail here is a
        receipt that is no longer ours: AWS and the emulators differ on it, and the row decides
        anyway.
        """
        by_queue: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            by_queue.setdefault(delivery.queue, []).append(delivery)
        calls = []
        for queue, those in by_queue.items():
            for start in range(0, len(those), BATCH_MAX):
                entries = [
                    {"Id": str(i), "ReceiptHandle": delivery.receipt, **extra}
                    for i, delivery in enumerate(those[start : start + BATCH_MAX])
                ]
                request = {"QueueUrl": queue, "Entries": entries}
                calls.append(call(self._client, "sqs", operation, request))
        await asyncio.gather(*calls)

    async def depth(self, queue: str) -> Depth:
        """How much the queue holds; see `TaskQueue`."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        request = {"QueueUrl": queue, "AttributeNames": names}
        answer = await call(self._client, "sqs", "GetQueueAttributes", request)
        waiting, running = (int(answer["Attributes"][name]) for name in names)
        return Depth(waiting, running)


class SqsQueueMaker:
    """`QueueMaker` on SQS: all queues of a stack share one dead-letter queue."""

    def __init__(self, client: AwsClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    async def make(self, model: str) -> Mapping[Tier, str]:
        """
        The URLs of a model's queues, made where missing; see `QueueMaker`.

        They are looked up first: those that CloudFormation made may differ in an attribute, and
        then CreateQueue refuses.
        """
        names = {tier: queue_name(self._settings.stack, model, tier) for tier in TIERS}
        urls = await asyncio.gather(*map(self._url, names.values()))
        found = {tier: url for tier, url in zip(names, urls, strict=True) if url}
        missing = [tier for tier in names if tier not in found]
        if missing:
            dead = await self.make_dead_letters()
            made = await asyncio.gather(*(self._make(names[tier], dead) for tier in missing))
            found |= zip(missing, made, strict=True)
        return {tier: found[tier] for tier in names}

    async def make_dead_letters(self) -> str:
        """The ARN of the dead-letter queue, made where missing."""
        name = dead_letter_name(self._settings.stack)
        kept = str(self._settings.dead_letter_seconds_kept)
        attributes = {"MessageRetentionPeriod": kept, **self._encryption()}
        url = await self._url(name) or await self._create(name, attributes)
        request = {"QueueUrl": url, "AttributeNames": ["QueueArn"]}
        answer = await call(self._client, "sqs", "GetQueueAttributes", request)
        return str(answer["Attributes"]["QueueArn"])

    async def _make(self, name: str, dead_letters_arn: str) -> str:
        redrive = {"deadLetterTargetArn": dead_letters_arn, "maxReceiveCount": RECEIVES_MAX}
        place = dead_letters_arn.rpartition(":")[0]
        attributes = {
            "MessageRetentionPeriod": str(self._settings.queue_seconds_kept),
            "VisibilityTimeout": str(int(self._settings.lease_seconds)),
            "RedrivePolicy": json.dumps(redrive),
            "Policy": json.dumps(tls_only(f"{place}:{name}")),
            **self._encryption(),
        }
        return await self._create(name, attributes)

    async def _url(self, name: str) -> str | None:
        """The URL of a queue, None where there is none."""
        with translated():
            try:
                answer = await self._client.call("sqs", "GetQueueUrl", {"QueueName": name})
            except ClientError as error:
                if error.response["Error"]["Code"].rpartition(".")[2] in _NO_QUEUE:
                    return None
                raise
        return str(answer["QueueUrl"])

    def _encryption(self) -> dict[str, str]:
        if not self._settings.kms_key:
            return {}
        return {
            "KmsMasterKeyId": self._settings.kms_key,
            "KmsDataKeyReusePeriodSeconds": str(KEY_REUSE_SECONDS),
        }

    async def _create(self, name: str, attributes: Mapping[str, str]) -> str:
        request = {"QueueName": name, "Attributes": attributes}
        answer = await call(self._client, "sqs", "CreateQueue", request)
        return str(answer["QueueUrl"])


def tls_only(queue_arn: str) -> dict[str, Any]:
    """The policy of a queue that nobody may speak to in the clear."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "sqs:*",
                "Resource": queue_arn,
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }


def _delivery(queue: str, found: Mapping[str, Any]) -> Delivery:
    attributes = found.get("Attributes", {})
    return Delivery(
        queue=queue,
        receipt=found["ReceiptHandle"],
        text=found["Body"],
        receives=int(attributes.get("ApproximateReceiveCount", 1)),
        sent_ms=int(attributes.get("SentTimestamp", 0)),
    )
