"""The credentials lent to providers: their time, their policy, and the call of STS."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import pytest
from botocore.exceptions import ClientError, HTTPClientError

from inferline.aws.api.client import AwsClient
from inferline.aws.api.credentials import StaticCredentials
from inferline.aws.lending import RoleLender, session_name, session_policy
from inferline.errors import InvalidRequest, Unavailable
from inferline.fleet.registry import Model
from inferline.names import slug
from inferline.settings import Settings
from tests.support.aws_server import ScriptedAws, sends

ROLE = "arn:aws-cn:iam::123456789012:role/inferline-provider"
SETTINGS = Settings(
    provider_role=ROLE,
    region="cn-north-1",
    bodies_bucket_override="bodies",
    kms_key="arn:aws-cn:kms:cn-north-1:123456789012:key/k",
    credentials_seconds=1800,
)
MODEL = Model(id="org/m", queues={})
#: 2027-01-15T08:00:00Z.
NOW_S = 1_800_000_000.0
ANSWER = b"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult>
    <Credentials>
      <AccessKeyId>ASIAEXAMPLE</AccessKeyId>
      <SecretAccessKey>secret</SecretAccessKey>
      <SessionToken>token</SessionToken>
      <Expiration>2027-01-15T08:30:00Z</Expiration>
    </Credentials>
  </AssumeRoleResult>
</AssumeRoleResponse>"""
REFUSAL = b"""<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>
<Type>Sender</Type><Code>AccessDenied</Code><Message>not you</Message></Error>
<RequestId>1</RequestId></ErrorResponse>"""


def client(url: str) -> AwsClient:
    return AwsClient("cn-north-1", url, StaticCredentials("a", "b"), wall=lambda: NOW_S)


def statements(*models: str) -> dict[str, Any]:
    policy = json.loads(session_policy(SETTINGS, [slug(model) for model in models]))
    return {
        statement["Action"][0].partition(":")[0]: statement for statement in policy["Statement"]
    }


async def test_the_role_is_assumed_for_the_providers_models() -> None:
    async with ScriptedAws(sends(ANSWER, date_s=NOW_S)).serving() as aws, client(aws.url) as sts:
        lent = await RoleLender(sts, SETTINGS).lend("gpu/1 x", [MODEL])

    form = {name: values[0] for name, values in parse_qs(aws.bodies[0].decode()).items()}
    assert {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": "provider-gpu-1-x",
        "DurationSeconds": "1800",
        "Policy": session_policy(SETTINGS, [MODEL.slug]),
    } == form
    assert ("ASIAEXAMPLE", "secret", "token") == (lent.access_key, lent.secret_key, lent.token)
    assert (int(NOW_S) + 1800) * 1000 == lent.expires_ms
    assert 1790 <= (lent.last_seconds or 0) <= 1800
    assert "/sts/aws4_request" in aws.requests[0].headers["Authorization"]
    assert "secret" not in repr(lent)


async def test_a_refusal_is_told_without_what_aws_said_of_the_account() -> None:
    async with ScriptedAws(sends(REFUSAL, 403)).serving() as aws, client(aws.url) as sts:
        with pytest.raises(Unavailable) as raised:
            await RoleLender(sts, SETTINGS).lend("p", [MODEL])

    cause = raised.value.__cause__
    assert isinstance(cause, ClientError)
    assert "AccessDenied" == cause.response["Error"]["Code"]
    assert "not you" not in str(raised.value)


async def test_an_answer_that_is_no_xml_is_an_error() -> None:
    async with ScriptedAws(sends(b"hello")).serving() as aws, client(aws.url) as sts:
        with pytest.raises(HTTPClientError):
            await sts.query("sts", "GetCallerIdentity", {})


def test_a_session_may_do_the_work_on_its_models_and_nothing_else() -> None:
    by_service, own = statements("org/m"), slug("org/m")

    assert {"sqs", "dynamodb", "s3", "kms"} == set(by_service)
    assert {
        "Effect": "Allow",
        "Action": ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"],
        "Resource": [f"arn:aws-cn:sqs:*:*:inferline-{own}-*"],
    } == by_service["sqs"]
    assert {
        "Effect": "Allow",
        "Action": ["dynamodb:BatchGetItem", "dynamodb:BatchWriteItem", "dynamodb:UpdateItem"],
        "Resource": ["arn:aws-cn:dynamodb:*:*:table/inferline-tasks"],
        "Condition": {
            "ForAllValues:StringLike": {"dynamodb:LeadingKeys": [f"{own}#*"]},
            "Null": {"dynamodb:LeadingKeys": "false"},
        },
    } == by_service["dynamodb"]
    # Of which buckets, and that it writes to the files' alone, is in the role's own policy.
    assert ["s3:GetObject", "s3:PutObject"] == by_service["s3"]["Action"]
    assert [f"arn:aws-cn:s3:::*/{own}/*"] == by_service["s3"]["Resource"]
    assert [SETTINGS.kms_key] == by_service["kms"]["Resource"]


def test_each_model_is_named() -> None:
    by_service = statements("a", "b")

    assert 2 == len(by_service["sqs"]["Resource"])
    assert 2 == len(by_service["s3"]["Resource"])
    assert [f"{slug('a')}#*", f"{slug('b')}#*"] == by_service["dynamodb"]["Condition"][
        "ForAllValues:StringLike"
    ]["dynamodb:LeadingKeys"]


def test_more_models_than_a_policy_can_name_are_refused_with_what_to_do() -> None:
    slugs = [slug(f"a-vendor/a-model-of-a-rather-long-name-{i}") for i in range(12)]

    with pytest.raises(InvalidRequest) as raised:
        session_policy(SETTINGS, slugs)

    assert "12 models are more" in str(raised.value)
    assert "of these, 6 fit" in str(raised.value)
    assert "second provider" in str(raised.value)
    assert len(session_policy(SETTINGS, slugs[:6])) <= 2048


def test_there_is_room_for_as_many_models_as_can_be_lent() -> None:
    names = [f"a-vendor/a-model-of-a-rather-long-name-{i}" for i in range(12)]
    lender = RoleLender(client("http://127.0.0.1:9"), SETTINGS)

    assert [6, 3, 0] == [lender.room(names[:count]) for count in (12, 3, 0)]


@pytest.mark.parametrize("name", ["p", "a" * 128, "org/gpu:1@x", "ü"])
def test_a_sessions_name_is_one_that_sts_takes(name: str) -> None:
    session = session_name(name)

    assert 2 <= len(session) <= 64
    assert set(session) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_=,.@-"
    )


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException"])
async def test_expired_keys_are_told_to_whoever_they_are_from(code: str) -> None:
    class Source(StaticCredentials):
        expirations = 0

        def expired(self) -> None:
            self.expirations += 1

    source, body = Source("a", "b"), json.dumps({"__type": f"com.amazon#{code}"}).encode()
    async with (
        ScriptedAws(sends(body, 400)).serving() as aws,
        AwsClient("us-east-1", aws.url, source) as sqs,
    ):
        with pytest.raises(ClientError):
            await sqs.call("sqs", "SendMessage", {})

    assert 1 == source.expirations
