"""
Credentials for providers: of the stack's provider role, for an hour at most, cut down to the queues
and keys of the models that the provider serves.
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
BODY_ACTIONS: Final = ("s3:GetObject",)
#: What DynamoDB, SQS and S3 do with the stack's key on behalf of their caller.
KEY_ACTIONS: Final = (
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)


class FixedLender:
    """A `Lender` of the same credentials to everybody: an emulator's, which open all of it."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def room(self, models: Sequence[str]) -> int:
        """All of them; see `Lender`."""
        return len(models)

    async def lend(self, provider_id: str, models: Sequence[Model]) -> Credentials:
        """The credentials given; see `Lender`."""
        return self._credentials


class RoleLender:
    """A `Lender` of sessions of the provider role."""

    def __init__(self, client: AwsClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    def room(self, models: Sequence[str]) -> int:
        """As many as a session's policy has room for; see `Lender`."""
        return fitting(self._settings, list(map(slug, models)))

    async def lend(self, provider_id: str, models: Sequence[Model]) -> Credentials:
        """
        A session of the role for these models; see `Lender`.

        Raises InvalidRequest for more models than a session's policy can name.
        """
        settings = self._settings
        request = {
            "RoleArn": settings.provider_role,
            "RoleSessionName": session_name(provider_id),
            "DurationSeconds": str(settings.credentials_seconds),
            "Policy": session_policy(settings, [model.slug for model in models]),
        }
        with translated("No credentials could be had for the provider. Try again in a moment."):
            found = await self._client.query("sts", "AssumeRole", request)
        expires_ms = int(datetime.fromisoformat(found["Expiration"]).timestamp() * 1000)
        return Credentials(
            access_key=found["AccessKeyId"],
            secret_key=found["SecretAccessKey"],
            token=found["SessionToken"],
            expires_ms=expires_ms,
            last_seconds=max(0, (expires_ms - self._client.now_ms()) // 1000),
        )


def session_name(provider_id: str) -> str:
    """The session's name: who it was, for CloudTrail's readers."""
    return re.sub(r"[^A-Za-z0-9_=,.@-]", "-", f"provider-{provider_id}")[:_NAME_CHARS_MAX]


def session_policy(settings: Settings, slugs: Sequence[str]) -> str:
    """
    What a session may do of what the role may: these models' work and no other's.

    Account, region and table stand in the role's own policy, and a session has what both allow;
    without them here there is room for more models. Raises InvalidRequest when there is not enough.
    """
    if (room := fitting(settings, slugs)) < len(slugs):
        raise InvalidRequest(
            f"{len(slugs)} models are more than one provider's credentials can name; of these, "
            f"{room} fit. Choose some with --models, and start a second provider for the rest.",
            param="models",
        )
    return _policy(settings, slugs)


def fitting(settings: Settings, slugs: Sequence[str]) -> int:
    """How many of these models, from the first on, one session's policy can name."""
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
                # Without keys in the request the condition above would hold.
                "Null": {"dynamodb:LeadingKeys": "false"},
            },
        ),
        _allow(BODY_ACTIONS, [f"{arn}:s3:::{settings.bodies_bucket}/{slug}/*" for slug in slugs]),
    ]
    if settings.kms_key:
        statements.append(_allow(KEY_ACTIONS, [settings.kms_key]))
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def _allow(
    actions: Sequence[str], resources: Sequence[str], condition: Any = None
) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": actions, "Resource": resources}
    return statement | ({"Condition": condition} if condition else {})
