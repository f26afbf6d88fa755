"""
Where tasks wait: a queue for each declared model and tier, and one for what nobody could handle.

A provider that brings a further model has its queues made when it enrols, with the same attributes.
"""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from inferline.aws.sqs import (
    KEY_REUSE_SECONDS,
    RECEIVES_MAX,
    dead_letter_name,
    message_seconds_kept,
    queue_name,
)
from inferline.settings import Settings
from inferline.tasks.task import QUEUE_TIERS, Tier
from infra.options import Options

#: How long the function for dead letters has, with its retries, before one is handed out again.
DEAD_HIDDEN_SECONDS = 180


class Queues(Construct):
    """The queues of the declared models, and the dead letters."""

    def __init__(self, scope: Construct, name: str, options: Options, key: kms.IKey) -> None:
        super().__init__(scope, name)
        self._key = key
        self._seconds_kept = options.queue_seconds_kept
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            queue_name=dead_letter_name(options.stack),
            retention_period=Duration.seconds(options.dead_letter_seconds_kept),
            visibility_timeout=Duration.seconds(DEAD_HIDDEN_SECONDS),
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=key,
            data_key_reuse=Duration.seconds(KEY_REUSE_SECONDS),
            enforce_ssl=True,
        )
        for model in options.models:
            for tier in QUEUE_TIERS:
                self._queue(queue_name(options.stack, model, tier), tier)

    def _queue(self, name: str, tier: Tier) -> None:
        sqs.Queue(
            self,
            name,
            queue_name=name,
            retention_period=Duration.seconds(message_seconds_kept(tier, self._seconds_kept)),
            visibility_timeout=Duration.seconds(int(Settings().lease_seconds)),
            dead_letter_queue=sqs.DeadLetterQueue(
                queue=self.dead_letters, max_receive_count=RECEIVES_MAX
            ),
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=self._key,
            data_key_reuse=Duration.seconds(KEY_REUSE_SECONDS),
            enforce_ssl=True,
        )
