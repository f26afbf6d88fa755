"""A line that asks for keys, on an emulator that checks rights: made, used and taken back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from tests.support.line import MODEL, Line, Part, empty_line, until

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


@dataclass
class Locked:
    """The line, and what its operator holds."""

    line: Line
    key: str
    token: str
    provider: Part
    #: The environment of a provider's host, whose own AWS credentials open nothing.
    host: dict[str, str]

    def client(self, key: str | None = None) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key if key is None else key}"}
        return httpx.Client(base_url=self.line.url, headers=headers, timeout=60)


def inferline(line: Line, *arguments: str) -> Any:
    command = [sys.executable, "-m", "inferline", *arguments, "--json"]
    done = subprocess.run(command, env=line.environ, capture_output=True, text=True, timeout=60)
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def role_of(iam: Any) -> str:
    """
    Return a role with all rights on what there is: what a session may not is up to its policy.
    """
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    may = {"Effect": "Allow", "Action": ["sqs:*", "dynamodb:*", "s3:*"], "Resource": "*"}
    documents = [json.dumps({"Version": "2012-10-17", "Statement": [one]}) for one in (trust, may)]
    made = iam.create_role(RoleName="p", AssumeRolePolicyDocument=documents[0])["Role"]
    iam.put_role_policy(RoleName="p", PolicyName="work", PolicyDocument=documents[1])
    return str(made["Arn"])


def keys_without_rights(iam: Any) -> dict[str, str]:
    """Return the environment of a host whose own AWS credentials open nothing."""
    iam.create_user(UserName="host")
    made = iam.create_access_key(UserName="host")["AccessKey"]
    return {
        "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
    }


@pytest.fixture(scope="module")
def locked() -> Iterator[Locked]:
    with empty_line("--strict") as line:
        iam = boto3.client("iam", "us-east-1", endpoint_url=line.emulator_url)
        line.start_gateway(INFERLINE_ACCESS="keys", INFERLINE_PROVIDER_ROLE=role_of(iam))
        backend = line.start_backend("--first-token-seconds", "0.02", "--tokens-per-second", "200")
        key = inferline(line, "keys", "create", "--name", "app")["key"]
        token = inferline(line, "providers", "token", "--models", f"{MODEL[:4]}*")["key"]
        arguments = ("--base-url", line.url, "--backend", backend, "--id", "p1")
        host = keys_without_rights(iam)
        environ = {"INFERLINE_PROVIDER_TOKEN": token, **host}
        part = line.start("provider", "inferline_provider", *arguments, environ=environ)
        locked_line = Locked(line, key, token, part, host)
        with locked_line.client() as client:
            until(lambda: client.get("/v1/providers").json()["data"], "the provider has enrolled")
        yield locked_line


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_gets_an_answer_over_lent_credentials(locked: Locked, stream: bool) -> None:
    with locked.client() as client:
        answer = client.post("/v1/chat/completions", json={**CHAT, "stream": stream})

    assert 200 == answer.status_code, answer.text + locked.provider.log
    assert "p1" == answer.headers["x-inferline-provider"]


def test_a_large_body_is_read_with_them_too(locked: Locked) -> None:
    body = {**CHAT, "messages": [{"role": "user", "content": "x" * 400_000}]}
    with locked.client() as client:
        answer = client.post("/v1/chat/completions", json=body)

    assert 200 == answer.status_code, answer.text + locked.provider.log


def test_without_a_key_or_with_the_token_there_is_none(locked: Locked) -> None:
    for key, status in (("none", 401), (locked.token, 403)):
        with locked.client(key) as client:
            assert status == client.post("/v1/chat/completions", json=CHAT).status_code
            assert status == client.get("/v1/models").status_code


def test_what_a_key_has_reserved_and_not_used_it_may_use_again(locked: Locked) -> None:
    limit = ("--tokens-per-day", "1000")
    key = inferline(locked.line, "keys", "create", "--name", "thrifty", *limit)["key"]
    most_of_it, more_than_it = {**CHAT, "max_tokens": 900}, {**CHAT, "max_tokens": 1000}

    with locked.client(key) as client:
        first = client.post("/v1/chat/completions", json=most_of_it)
        until(
            lambda: client.post("/v1/chat/completions", json=most_of_it).status_code == 200,
            "the first one is settled",
        )
        refused = client.post("/v1/chat/completions", json=more_than_it)

    assert (200, "1000") == (first.status_code, first.headers["x-ratelimit-limit-tokens"])
    assert int(first.headers["x-ratelimit-remaining-tokens"]) < 100
    assert (429, "false") == (refused.status_code, refused.headers["x-should-retry"])


def test_the_commands_show_the_key(locked: Locked) -> None:
    locked.line.environ |= {"INFERLINE_API_KEY": locked.key, "INFERLINE_BASE_URL": locked.line.url}

    assert [MODEL] == [model["id"] for model in inferline(locked.line, "models")]
    assert ["p1"] == [provider["id"] for provider in inferline(locked.line, "providers")]
    assert inferline(locked.line, "status")


def test_a_token_enrols_only_what_it_is_for(locked: Locked) -> None:
    token = inferline(locked.line, "providers", "token", "--models", "another*")["key"]
    command = [sys.executable, "-m", "inferline_provider", "--base-url", locked.line.url]
    done = subprocess.run(
        [*command, "--backend", locked.line.backend_url, "--id", "p2"],
        env={**os.environ, "INFERLINE_PROVIDER_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert 3 == done.returncode
    assert "another*" in done.stderr
    assert MODEL in done.stderr


def enrolled(locked: Locked, token: str, provider: str) -> Any:
    """Return what a provider is granted that never takes a task."""
    enrolment = {"id": provider, "version": "0", "slots": 0, "takes_reserved": True}
    with locked.client(token) as client:
        answer = client.post("/v1/providers", json={**enrolment, "models": [{"id": MODEL}]})
    assert 200 == answer.status_code, answer.text
    return answer.json()


def is_allowed(locked: Locked, grant: Any, queue: str) -> bool:
    """Return whether the credentials of a grant may receive from a queue."""
    lent = grant["credentials"]
    sqs = boto3.client(
        "sqs",
        "us-east-1",
        endpoint_url=locked.line.emulator_url,
        aws_access_key_id=lent["access_key"],
        aws_secret_access_key=lent["secret_key"],
        aws_session_token=lent["token"],
    )
    try:
        sqs.receive_message(QueueUrl=queue)
    except ClientError as error:
        if "AccessDenied" not in error.response["Error"]["Code"]:
            raise
        return False
    return True


def test_a_tenants_prompts_reach_its_own_providers_alone(locked: Locked) -> None:
    line, token = locked.line, inferline(locked.line, "providers", "token", "--models", MODEL)
    inferline(line, "tenants", "set", "apart", "--providers", token["id"])
    key = inferline(line, "keys", "create", "--name", "apart")["key"]
    arguments = ("--base-url", line.url, "--backend", line.backend_url, "--id", "p3")
    environ = {"INFERLINE_PROVIDER_TOKEN": token["key"], **locked.host}
    part = line.start("provider", "inferline_provider", *arguments, environ=environ)

    with locked.client(key) as client:
        until(lambda: client.get("/v1/models").json()["data"], "its own provider has enrolled")
        answers = [client.post("/v1/chat/completions", json=CHAT) for _ in range(6)]
        listed = client.get("/v1/providers").json()["data"]
    own, other = enrolled(locked, token["key"], "p4"), enrolled(locked, locked.token, "p5")
    part.stop()

    assert [200] * 6 == [answer.status_code for answer in answers], answers[-1].text + part.log
    assert {"p3"} == {answer.headers["x-inferline-provider"] for answer in answers}
    assert ["p3"] == [provider["id"] for provider in listed]
    [name] = own["queues"].keys() - other["queues"].keys()
    apart, everybodys = own["queues"][name]["default"], other["queues"][MODEL]["default"]
    assert [True, False] == [is_allowed(locked, grant, apart) for grant in (own, other)]
    assert [True, True] == [is_allowed(locked, grant, everybodys) for grant in (own, other)]


def test_both_secrets_of_a_rotated_key_get_answers(locked: Locked) -> None:
    made = inferline(locked.line, "keys", "create", "--name", "rotated")
    rotated = inferline(locked.line, "keys", "rotate", made["id"], "--overlap", "1h")

    for text in (made["key"], rotated["key"]):
        with locked.client(text) as client:
            assert 200 == client.get("/v1/models").status_code
    [row] = [r for r in inferline(locked.line, "keys", "list") if r["id"] == made["id"]]
    assert row["created"] <= row["last_used"]
