"""The task queue on SQS: a standard queue per model and tier, and a dead-letter queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import translated
from inferline.errors import InvalidRequest, Unavailable
from inferline.names import slug
from inferline.settings import SQS_SECONDS_MAX, Settings
from inferline.tasks.queue import Delivery, Depth, Message
from inferline.tasks.task import QUEUE_TIERS, Tier

#: SQS's limit on one batch, entries.
BATCH_MAX: Final = 10
#: As many as SQS allows: attempts are counted in the row, and a message that a busy backend or a
#: full provider returned counts as received too.
RECEIVES_MAX: Final = 1000
#: How long SQS uses one data key, seconds: each new one is a call of KMS that is billed.
KEY_REUSE_SECONDS: Final = 3600
#: SQS's limit on a name, less room for a suffix.
NAME_CHARS_MAX: Final = 76
#: SQS's codes for a queue that does not exist: of its JSON and of its older protocol.
_NO_QUEUE: Final = frozenset({"QueueDoesNotExist", "NonExistentQueue"})


def queue_name(stack: str, model: str, tier: Tier) -> str:
    """Return the name of a model's queue, valid for any model name and different for each."""
    name = f"{stack}-{slug(model)}-{tier}"
    if len(name) > NAME_CHARS_MAX:
        raise InvalidRequest(f"The stack name {stack!r} is too long: 13 characters are the most.")
    return name


def message_seconds_kept(tier: Tier, queue_seconds_kept: int) -> int:
    """Return how long a queue keeps a message: one of a batch may wait for days, others not."""
    return SQS_SECONDS_MAX if tier == "batch" else queue_seconds_kept


def dead_letter_name(stack: str) -> str:
    """Return the name of the stack's dead-letter queue."""
    return f"{stack}-dead-letters"


class SqsQueue:
    """`TaskQueue` on SQS."""

    def __init__(self, client: AwsClient) -> None:
        self._client = client

    async def send(self, queue: str, message: Message, tenant: str) -> None:
        request = {"QueueUrl": queue, "MessageBody": message.dumps(), "MessageGroupId": tenant}
        await translated(self._client.call("sqs", "SendMessage", request))

    async def send_all(self, queue: str, messages: Sequence[Message], tenant: str) -> None:
        batches = [
            messages[start : start + BATCH_MAX] for start in range(0, len(messages), BATCH_MAX)
        ]
        await asyncio.gather(*(self._send_batch(queue, batch, tenant) for batch in batches))

    async def _send_batch(self, queue: str, messages: Sequence[Message], tenant: str) -> None:
        """Send up to ten messages. A batch reports failures per message and does not fail."""
        entries = [
            {"Id": str(i), "MessageBody": message.dumps(), "MessageGroupId": tenant}
            for i, message in enumerate(messages)
        ]
        request = {"QueueUrl": queue, "Entries": entries}
        answer = await translated(self._client.call("sqs", "SendMessageBatch", request))
        if answer.get("Failed"):
            raise Unavailable

    async def receive(
        self, queue: str, *, limit: int, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[Delivery]:
        request = {
            "QueueUrl": queue,
            "MaxNumberOfMessages": limit,
            "WaitTimeSeconds": wait_seconds,
            "VisibilityTimeout": visibility_timeout_seconds,
            "MessageSystemAttributeNames": ["ApproximateReceiveCount", "SentTimestamp"],
        }
        answer = await translated(self._client.call("sqs", "ReceiveMessage", request))
        return [_delivery(queue, message) for message in answer.get("Messages", [])]

    async def change_visibility(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        await self._each("ChangeMessageVisibilityBatch", deliveries, {"VisibilityTimeout": seconds})

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        await self._each("DeleteMessageBatch", deliveries, {})

    async def _each(
        self, operation: str, deliveries: Sequence[Delivery], extra: Mapping[str, Any]
    ) -> None:
        """
        Do one thing to many messages, ten a call.

        A batch reports failures per message and does not fail itself. They are ignored: a receipt
        may have lapsed, and the task's row decides who owns the task.
        """
        by_queue: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            by_queue.setdefault(delivery.queue, []).append(delivery)
        calls = []
        for queue, received in by_queue.items():
            for start in range(0, len(received), BATCH_MAX):
                entries = [
                    {"Id": str(i), "ReceiptHandle": delivery.receipt, **extra}
                    for i, delivery in enumerate(received[start : start + BATCH_MAX])
                ]
                request = {"QueueUrl": queue, "Entries": entries}
                calls.append(translated(self._client.call("sqs", operation, request)))
        await asyncio.gather(*calls)

    async def depth(self, queue: str) -> Depth:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        request = {"QueueUrl": queue, "AttributeNames": names}
        answer = await translated(self._client.call("sqs", "GetQueueAttributes", request))
        waiting, running = (int(answer["Attributes"][name]) for name in names)
        return Depth(waiting, running)


class SqsQueueMaker:
    """`QueueMaker` on SQS: all queues of a stack share one dead-letter queue."""

    def __init__(self, client: AwsClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    async def make(self, model: str) -> Mapping[Tier, str]:
        # Look them up first: CreateQueue refuses a queue with other attributes, CloudFormation's.
        names = {tier: queue_name(self._settings.stack, model, tier) for tier in QUEUE_TIERS}
        urls = await asyncio.gather(*map(self._url, names.values()))
        by_tier = {tier: url for tier, url in zip(names, urls, strict=True) if url}
        missing = [tier for tier in names if tier not in by_tier]
        if missing:
            dead = await self.make_dead_letters()
            made = await asyncio.gather(*(self._make(tier, names[tier], dead) for tier in missing))
            by_tier |= zip(missing, made, strict=True)
        return {tier: by_tier[tier] for tier in names}

    async def make_dead_letters(self) -> str:
        name = dead_letter_name(self._settings.stack)
        kept = str(self._settings.dead_letter_seconds_kept)
        attributes = {"MessageRetentionPeriod": kept, **self._encryption()}
        url = await self._url(name) or await self._create(name, attributes)
        request = {"QueueUrl": url, "AttributeNames": ["QueueArn"]}
        answer = await translated(self._client.call("sqs", "GetQueueAttributes", request))
        return str(answer["Attributes"]["QueueArn"])

    async def _make(self, tier: Tier, name: str, dead_letters_arn: str) -> str:
        kept = message_seconds_kept(tier, self._settings.queue_seconds_kept)
        redrive = {"deadLetterTargetArn": dead_letters_arn, "maxReceiveCount": RECEIVES_MAX}
        arn_prefix = dead_letters_arn.rpartition(":")[0]
        attributes = {
            "MessageRetentionPeriod": str(kept),
            "VisibilityTimeout": str(int(self._settings.lease_seconds)),
            "RedrivePolicy": json.dumps(redrive),
            "Policy": json.dumps(tls_only(f"{arn_prefix}:{name}")),
            **self._encryption(),
        }
        return await self._create(name, attributes)

    async def _url(self, name: str) -> str | None:
        """Return the URL of a queue, None if there is no such queue."""
        try:
            answer = await translated(self._client.call("sqs", "GetQueueUrl", {"QueueName": name}))
        except Unavailable as error:
            if _error_code(error) in _NO_QUEUE:
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
        answer = await translated(self._client.call("sqs", "CreateQueue", request))
        return str(answer["QueueUrl"])


def _error_code(error: Unavailable) -> str:
    """Return AWS's code for a failure, without its prefix; empty where AWS gave no answer."""
    cause = error.__cause__
    return (
        cause.response["Error"]["Code"].rpartition(".")[2] if isinstance(cause, ClientError) else ""
    )


def tls_only(queue_arn: str) -> dict[str, Any]:
    """Return the policy of a queue that refuses calls without TLS."""
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


def _delivery(queue: str, message: Mapping[str, Any]) -> Delivery:
    attributes = message.get("Attributes", {})
    return Delivery(
        queue=queue,
        receipt=message["ReceiptHandle"],
        text=message["Body"],
        receives=int(attributes.get("ApproximateReceiveCount", 1)),
        sent_ms=int(attributes.get("SentTimestamp", 0)),
    )
