"""The AWS client: the requests that it sends, its results of answers, and its retries."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)

from inferline.aws.api.client import AwsClient
from inferline.aws.api.credentials import StaticCredentials
from tests.support.aws_server import ScriptedAws, Step, after, hangs_up, refuses, says, sends
from tests.support.emulators import free_port

NOW = 1_800_000_000.0
KEYS = StaticCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI", "a-session-token")
KEY = {"pk": {"S": "a"}}


class FakeClock:
    """Stands still but for sleeps, which take no time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@asynccontextmanager
async def aws(
    *script: Step, wall: float = NOW, **options: Any
) -> AsyncIterator[tuple[AwsClient, ScriptedAws, FakeClock]]:
    clock = FakeClock()
    options |= {"jitter": lambda: 0.5, "clock": clock, "wall": lambda: wall}
    async with (
        ScriptedAws(*script).serving() as server,
        AwsClient("eu-west-1", server.url, KEYS, **options) as client,
    ):
        yield client, server, clock


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


# What is sent


async def test_a_call_is_the_json_that_aws_documents() -> None:
    async with aws(says({"Item": KEY})) as (client, server, _):
        answer = await client.call("dynamodb", "GetItem", {"TableName": "tasks", "Key": KEY})

    [request] = server.requests
    assert answer == {"Item": KEY}
    assert (request.method, request.path) == ("POST", "/")
    assert request.headers["X-Amz-Target"] == "DynamoDB_20120810.GetItem"
    assert request.headers["Content-Type"] == "application/x-amz-json-1.0"
    assert json.loads(server.bodies[0]) == {"TableName": "tasks", "Key": KEY}


async def test_an_empty_answer_is_an_empty_object() -> None:
    async with aws(sends(b"")) as (client, server, _):
        assert await client.call("sqs", "DeleteMessage", {}) == {}

    assert server.requests[0].headers["X-Amz-Target"] == "AmazonSQS.DeleteMessage"


async def test_an_object_goes_to_its_quoted_path() -> None:
    async with aws(sends(b""), sends(b"bytes")) as (client, server, _):
        await client.s3("PUT", "bodies", "a b/ü+%", b"bytes", encryption="aws:kms")
        assert await client.s3("GET", "bodies", "a b/ü+%") == b"bytes"

    put, get = server.requests
    assert put.raw_path == get.raw_path == "/bodies/a%20b/%C3%BC%2B%25"
    assert server.bodies == [b"bytes", b""]
    assert put.headers["x-amz-server-side-encryption"] == "aws:kms"
    assert "x-amz-content-sha256" in put.headers


async def test_every_attempt_is_counted() -> None:
    async with aws(refuses("ThrottlingException")) as (client, *_):
        await client.call("dynamodb", "GetItem", {})
        await client.call("sqs", "SendMessage", {})
        await client.s3("DELETE", "bodies", "key")

        assert client.calls == {
            ("dynamodb", "GetItem"): 2,
            ("sqs", "SendMessage"): 1,
            ("s3", "DeleteObject"): 1,
        }


async def test_no_log_shows_the_session_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async with aws() as (client, server, _):
        await client.call("sqs", "SendMessage", {})

    assert server.requests[0].headers["X-Amz-Security-Token"] == "a-session-token"
    assert "a-session-token" not in caplog.text


async def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await AwsClient("eu-west-1", "http://127.0.0.1:1", KEYS).call("sqs", "SendMessage", {})


# What AWS refuses


@pytest.mark.parametrize(
    "name",
    ["com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", "ResourceNotFoundException"],
)
async def test_an_error_has_its_bare_name(name: str) -> None:
    async with aws(refuses(name)) as (client, *_):
        with pytest.raises(ClientError, match="GetItem") as raised:
            await client.call("dynamodb", "GetItem", {})

    assert code_of(raised) == "ResourceNotFoundException"
    assert raised.value.response["Error"]["Message"] == f"{name} happened"


async def test_an_error_keeps_what_else_its_body_says() -> None:
    step = refuses("ConditionalCheckFailedException", Item=KEY, CancellationReasons=[{"Code": "x"}])
    async with aws(step) as (client, *_):
        with pytest.raises(ClientError) as raised:
            await client.call("dynamodb", "UpdateItem", {})

    response: Any = raised.value.response
    assert response["Item"] == KEY
    assert response["CancellationReasons"] == [{"Code": "x"}]


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (sends(b"<html>Bad</html>", 404), "404"),
        (sends(b"", 403, error_type="Denied:http://internal"), "Denied"),
        (sends(b"<Error><Code>NoSuchKey</Code><Message>m</Message></Error>", 404), "NoSuchKey"),
        (sends(b"[1]", 400), "400"),
        (sends(b"", 301), "301"),
    ],
)
async def test_any_refusal_becomes_an_error_with_a_code(step: Step, code: str) -> None:
    async with aws(step) as (client, *_):
        with pytest.raises(ClientError) as raised:
            await client.s3("GET", "bodies", "key")

    assert code_of(raised) == code


async def test_a_good_answer_that_is_not_json_is_an_error() -> None:
    async with aws(sends(b"<html>")) as (client, *_):
        with pytest.raises(HTTPClientError, match="without JSON"):
            await client.call("sqs", "SendMessage", {})


# When it tries again


async def test_a_throttled_call_waits_longer_than_a_failed_one() -> None:
    script = (refuses("ThrottlingException"), refuses("ThrottlingException"))
    async with aws(*script) as (client, _, clock):
        await client.call("dynamodb", "GetItem", {})
    assert clock.slept == [0.5, 1.0]

    async with aws(refuses("InternalServerError", 500), hangs_up()) as (client, _, clock):
        await client.call("dynamodb", "GetItem", {})
    assert clock.slept == [0.025, 0.05]


async def test_it_gives_up_after_max_attempts() -> None:
    async with aws(*[refuses("InternalFailure", 503)] * 5) as (client, server, _):
        with pytest.raises(ClientError) as raised:
            await client.call("dynamodb", "GetItem", {})

    assert len(server.requests) == 3
    assert raised.value.response["ResponseMetadata"]["RetryAttempts"] == 2


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
async def test_what_would_fail_again_is_not_tried_again(code: str) -> None:
    async with aws(refuses(code)) as (client, server, _):
        with pytest.raises(ClientError):
            await client.call("dynamodb", "GetItem", {})

    assert len(server.requests) == 1


async def test_an_outage_meets_no_storm() -> None:
    async with aws(*[refuses("InternalFailure", 500)] * 1000) as (client, server, _):
        for _ in range(200):
            with pytest.raises(ClientError):
                await client.call("dynamodb", "GetItem", {})

    assert 200 < len(server.requests) <= 300


@pytest.mark.parametrize("step", [hangs_up(), refuses("InternalFailure", 500)])
async def test_a_pull_is_never_repeated(step: Step) -> None:
    async with aws(step) as (client, server, _):
        with pytest.raises((ConnectionClosedError, ClientError)):
            await client.call("sqs", "ReceiveMessage", {})

    assert len(server.requests) == 1


async def test_a_caller_may_forbid_retries() -> None:
    async with aws(hangs_up()) as (client, server, _):
        with pytest.raises(ConnectionClosedError):
            await client.call("sqs", "SendMessage", {}, retry=False)

    assert len(server.requests) == 1


# When no answer comes


async def test_nobody_there_is_a_connection_error() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with AwsClient("eu-west-1", url, KEYS, clock=FakeClock()) as client:
        with pytest.raises(EndpointConnectionError):
            await client.call("sqs", "SendMessage", {})

        assert client.calls["sqs", "SendMessage"] == 3


async def test_silence_is_a_read_timeout() -> None:
    hang = asyncio.Event()
    async with aws(after(hang.wait, says({})), read_seconds=0.05, max_attempts=1) as (client, *_):
        with pytest.raises(ReadTimeoutError):
            await client.call("sqs", "SendMessage", {})
        hang.set()


async def test_a_long_poll_may_be_silent_for_as_long_as_it_waits() -> None:
    def slowly(body: dict[str, Any]) -> Step:
        return after(lambda: asyncio.sleep(0.2), says(body))

    async with aws(slowly({"n": 1}), slowly({"n": 2}), read_seconds=0.05) as (client, *_):
        with_its_own_wait = await client.call("sqs", "ReceiveMessage", {"WaitTimeSeconds": 5})
        as_the_queue_is_set = await client.call("sqs", "ReceiveMessage", {})

    assert (with_its_own_wait, as_the_queue_is_set) == ({"n": 1}, {"n": 2})


async def test_a_call_ends_when_its_time_is_up() -> None:
    hang = asyncio.Event()
    async with aws(after(hang.wait, says({}))) as (client, server, _):
        with pytest.raises(ReadTimeoutError):
            await client.call("sqs", "SendMessage", {}, timeout=0.05)
        hang.set()

    assert len(server.requests) == 1


# Whose clock counts


@pytest.mark.parametrize("wrong_by", [420, -420])
async def test_a_host_with_a_wrong_clock_is_put_right_by_the_first_refusal(wrong_by: int) -> None:
    refusal = refuses("InvalidSignatureException", date_s=NOW)
    script = (refusal, says({"n": 1}, date_s=NOW), says({"n": 2}, date_s=NOW))

    async with aws(*script, wall=NOW + wrong_by, max_attempts=1) as (client, server, clock):
        assert await client.call("sqs", "ReceiveMessage", {}) == {"n": 1}
        assert await client.call("sqs", "ReceiveMessage", {}) == {"n": 2}
        assert abs(client.now_ms() - NOW * 1000) <= 1000

    wrong, *right = [request.headers["X-Amz-Date"] for request in server.requests]
    assert wrong == {420: "20270115T080700Z", -420: "20270115T075300Z"}[wrong_by]
    assert set(right) <= {"20270115T080000Z", "20270115T080001Z"}
    assert clock.slept == []


async def test_a_wrong_clock_is_forgiven_once_a_call() -> None:
    dates = (NOW, NOW + 900, NOW)
    script = [refuses("RequestTimeTooSkewed", date_s=date) for date in dates]

    async with aws(*script, wall=NOW - 900) as (client, server, _):
        with pytest.raises(ClientError):
            await client.call("sqs", "SendMessage", {})

    assert len(server.requests) == 2


async def test_a_wrong_secret_is_not_taken_for_a_wrong_clock() -> None:
    async with aws(refuses("SignatureDoesNotMatch", date_s=NOW)) as (client, server, _):
        with pytest.raises(ClientError):
            await client.call("sqs", "SendMessage", {})

    assert len(server.requests) == 1
