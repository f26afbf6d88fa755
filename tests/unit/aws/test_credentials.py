"""The sources of credentials, their signatures, and the addresses of calls."""

from __future__ import annotations

import asyncio
import datetime
import threading
from typing import Any, NamedTuple

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import NoCredentialsError

from inferline.aws.api.credentials import ChainCredentials, Keys, StaticCredentials
from inferline.aws.api.endpoints import Endpoints
from inferline.aws.api.signing import presigned, signed

NOW = datetime.datetime(2027, 1, 15, 8, 0, 0, tzinfo=datetime.UTC)


class Renewing:
    """Keys that expire in so many minutes, from a service that renews them for an hour."""

    def __init__(self, minutes: float) -> None:
        self.threads: list[threading.Thread] = []
        self.credentials = RefreshableCredentials(
            "old", "secret", "token", self.expiry(minutes), self.renew, "test"
        )

    def expiry(self, minutes: float) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)

    def renew(self) -> dict[str, Any]:
        self.threads.append(threading.current_thread())
        return {
            "access_key": "new",
            "secret_key": "secret",
            "token": "token",
            "expiry_time": self.expiry(60).isoformat(),
        }


async def test_keys_given_are_the_keys_used() -> None:
    assert await StaticCredentials("a", "b").frozen() == ("a", "b", None)
    assert await ChainCredentials(Credentials("a", "b", "c")).frozen() == ("a", "b", "c")


async def test_the_chain_finds_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-the-environment")

    assert (await ChainCredentials().frozen()).access_key == "from-the-environment"


async def test_no_keys_anywhere_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")

    with pytest.raises(NoCredentialsError):
        await ChainCredentials().frozen()


async def test_keys_that_are_nearly_over_are_renewed_once_and_off_the_loop() -> None:
    service = Renewing(minutes=5)
    source = ChainCredentials(service.credentials)

    key_sets = await asyncio.gather(*[source.frozen() for _ in range(20)])

    assert {keys.access_key for keys in key_sets} == {"new"}
    assert len(service.threads) == 1
    assert service.threads[0] is not threading.main_thread()


async def test_keys_with_time_left_are_used_while_new_ones_are_fetched() -> None:
    service = Renewing(minutes=60)
    source = ChainCredentials(service.credentials)
    await source.frozen()
    service.credentials._expiry_time = service.expiry(12)

    meanwhile = await source.frozen()
    assert source._refresh is not None
    await source._refresh

    assert meanwhile.access_key == "old"
    assert (await source.frozen()).access_key == "new"


def test_keys_do_not_show() -> None:
    assert "secret" not in repr(Keys("id", "secret", "token"))


class Call(NamedTuple):
    """A call to sign."""

    service: str
    method: str
    url: str
    headers: dict[str, str]
    body: bytes


@pytest.mark.parametrize(
    ("service", "method", "url", "body"),
    [
        ("dynamodb", "POST", "https://dynamodb.eu-west-1.amazonaws.com/", b'{"a":1}'),
        ("sqs", "POST", "http://127.0.0.1:4566/", b"{}"),
        ("s3", "PUT", "https://bodies.s3.eu-west-1.amazonaws.com/a%20b/%2B", b"body"),
        ("s3", "GET", "http://127.0.0.1:4566/bodies/key", b""),
    ],
)
def test_a_signature_is_botocores_at_our_time(
    monkeypatch: pytest.MonkeyPatch, service: str, method: str, url: str, body: bytes
) -> None:
    keys, headers = Keys("AKID", "secret", "token"), {"X-Amz-Target": "A.B"}
    naive = NOW.replace(tzinfo=None)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: naive)
    theirs = AWSRequest(method, url, dict(headers), body)
    (S3SigV4Auth if service == "s3" else SigV4Auth)(keys, service, "eu-west-1").add_auth(theirs)
    monkeypatch.undo()

    call = Call(service, method, url, headers, body)
    ours = signed(call, "eu-west-1", keys, now_ms=int(NOW.timestamp() * 1000) + 999)

    assert ours == dict(theirs.headers.items())


@pytest.mark.parametrize("token", ["token/+=", None])
def test_a_presigned_address_is_botocores_at_our_time(
    monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    keys = Keys("AKID", "secret", token)
    url = "https://files.s3.eu-west-1.amazonaws.com/a%20b/0?response-content-disposition=a%3B%20b"
    naive = NOW.replace(tzinfo=None)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: naive)
    theirs = AWSRequest("GET", url, {}, b"")
    S3SigV4QueryAuth(keys, "s3", "eu-west-1", 60).add_auth(theirs)
    monkeypatch.undo()

    ours = presigned(url, "eu-west-1", keys, int(NOW.timestamp() * 1000) + 999, 60)

    assert ours == theirs.url


@pytest.mark.parametrize(
    ("region", "service", "url"),
    [
        ("us-east-1", "sqs", "https://sqs.us-east-1.amazonaws.com/"),
        ("eu-west-1", "dynamodb", "https://dynamodb.eu-west-1.amazonaws.com/"),
        ("us-gov-west-1", "sqs", "https://sqs.us-gov-west-1.amazonaws.com/"),
        ("cn-north-1", "dynamodb", "https://dynamodb.cn-north-1.amazonaws.com.cn/"),
        ("moon-1", "sqs", "https://sqs.moon-1.amazonaws.com/"),
    ],
)
def test_a_service_is_found_in_every_partition(region: str, service: str, url: str) -> None:
    assert Endpoints(region).service(service) == url


def test_an_object_is_addressed_as_its_place_wants_it() -> None:
    at_aws, emulated = Endpoints("eu-west-1"), Endpoints("eu-west-1", "http://127.0.0.1:4566/")

    assert at_aws.object("bodies", "a b") == "https://bodies.s3.eu-west-1.amazonaws.com/a%20b"
    assert at_aws.object("my.bodies", "k") == "https://s3.eu-west-1.amazonaws.com/my.bodies/k"
    assert emulated.object("bodies", "k") == "http://127.0.0.1:4566/bodies/k"
    assert emulated.service("sqs") == "http://127.0.0.1:4566/"
