"""
Temporary credentials for providers: a session of the stack's provider role for an hour at most,
limited to the queues and keys of the models that the provider serves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import translated
from inferline.errors import InvalidRequest
from inferline.fleet.enrolment import Credentials
from inferline.fleet.registry import Model
from inferline.names import slug
from inferline.settings import Settings

#: STS's limit on a session policy.
POLICY_CHARS_MAX: Final = 2048
#: STS's limit on a session's name.
_NAME_CHARS_MAX: Final = 64

QUEUE_ACTIONS: Final = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility")
TASK_ACTIONS: Final = ("dynamodb:BatchGetItem", "dynamodb:BatchWriteItem", "dynamodb:UpdateItem")
#: Of large bodies, and of the lines of batches; and the results of these.
BODY_ACTIONS: Final = ("s3:GetObject",)
OBJECT_ACTIONS: Final = (*BODY_ACTIONS, "s3:PutObject")
#: The calls of KMS that DynamoDB, SQS and S3 make for their caller.
KEY_ACTIONS: Final = (
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)


class FixedLender:
    """A `Lender` of the same credentials to everybody: an emulator's, without limits."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def room(self, models: Sequence[str]) -> int:
        return len(models)

    async def lend(self, provider_id: str, models: Sequence[Model]) -> Credentials:
        return self._credentials


class RoleLender:
    """A `Lender` of sessions of the provider role."""

    def __init__(self, client: AwsClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    def room(self, models: Sequence[str]) -> int:
        return fitting(self._settings, list(map(slug, models)))

    async def lend(self, provider_id: str, models: Sequence[Model]) -> Credentials:
        settings = self._settings
        request = {
            "RoleArn": settings.provider_role,
            "RoleSessionName": session_name(provider_id),
            "DurationSeconds": str(settings.credentials_seconds),
            "Policy": session_policy(settings, [model.slug for model in models]),
        }
        answer = await translated(
            self._client.query("sts", "AssumeRole", request),
            "No credentials could be had for the provider. Try again in a moment.",
        )
        expires_ms = int(datetime.fromisoformat(answer["Expiration"]).timestamp() * 1000)
        return Credentials(
            access_key=answer["AccessKeyId"],
            secret_key=answer["SecretAccessKey"],
            token=answer["SessionToken"],
            expires_ms=expires_ms,
            last_seconds=max(0, (expires_ms - self._client.now_ms()) // 1000),
        )


def session_name(provider_id: str) -> str:
    """Return the session's name, which shows the provider in CloudTrail."""
    return re.sub(r"[^A-Za-z0-9_=,.@-]", "-", f"provider-{provider_id}")[:_NAME_CHARS_MAX]


def session_policy(settings: Settings, slugs: Sequence[str]) -> str:
    """
    Build the policy that limits a session of the role to these models.

    A session may do what both policies allow. Account, region, table and buckets are in the role's
    own, so that this one has room for more models. Raises InvalidRequest for more models than fit.
    """
    if (room := fitting(settings, slugs)) < len(slugs):
        raise InvalidRequest(
            f"{len(slugs)} models are more than one provider's credentials can name; of these, "
            f"{room} fit. Choose some with --models, and start a second provider for the rest.",
            param="models",
        )
    return _policy(settings, slugs)


def fitting(settings: Settings, slugs: Sequence[str]) -> int:
    """Return how many of these models, from the first on, fit into one session's policy."""
    count = len(slugs)
    while count and len(_policy(settings, slugs[:count])) > POLICY_CHARS_MAX:
        count -= 1
    return count


def _policy(settings: Settings, slugs: Sequence[str]) -> str:
    partition = settings.provider_role.split(":")[1]
    arn = f"arn:{partition}"
    statements = [
        _allow(QUEUE_ACTIONS, [f"{arn}:sqs:*:*:{settings.stack}-{slug}-*" for slug in slugs]),
        _allow(
            TASK_ACTIONS,
            [f"{arn}:dynamodb:*:*:table/{settings.tasks_table}"],
            {
                "ForAllValues:StringLike": {"dynamodb:LeadingKeys": [f"{s}#*" for s in slugs]},
                # The condition above holds for a request without keys.
                "Null": {"dynamodb:LeadingKeys": "false"},
            },
        ),
        _allow(OBJECT_ACTIONS, [f"{arn}:s3:::*/{slug}/*" for slug in slugs]),
    ]
    if settings.kms_key:
        statements.append(_allow(KEY_ACTIONS, [settings.kms_key]))
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def _allow(
    actions: Sequence[str], resources: Sequence[str], condition: Any = None
) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": actions, "Resource": resources}
    return statement | ({"Condition": condition} if condition else {})
