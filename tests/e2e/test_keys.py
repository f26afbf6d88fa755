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

from tests.support.line import MODEL, Line, Part, empty_line, until

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


@dataclass
class Locked:
    """The line, and what its operator holds."""

    line: Line
    key: str
    token: str
    provider: Part

    def client(self, key: str | None = None) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key if key is None else key}"}
        return httpx.Client(base_url=self.line.url, headers=headers, timeout=60)


def inferline(line: Line, *arguments: str) -> Any:
    command = [sys.executable, "-m", "inferline", *arguments, "--json"]
    done = subprocess.run(command, env=line.environ, capture_output=True, text=True, timeout=60)
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def role_of(iam: Any) -> str:
    """A role with all rights on what there is: what a session may not is up to its policy."""
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    may = {"Effect": "Allow", "Action": ["sqs:*", "dynamodb:*", "s3:*"], "Resource": "*"}
    documents = [json.dumps({"Version": "2012-10-17", "Statement": [one]}) for one in (trust, may)]
    made = iam.create_role(RoleName="p", AssumeRolePolicyDocument=documents[0])["Role"]
    iam.put_role_policy(RoleName="p", PolicyName="work", PolicyDocument=documents[1])
    return str(made["Arn"])


def keys_without_rights(iam: Any) -> dict[str, str]:
    """The environment of a host whose own AWS credentials open nothing."""
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
        environ = {"INFERLINE_PROVIDER_TOKEN": token, **keys_without_rights(iam)}
        part = line.start("provider", "inferline_provider", *arguments, environ=environ)
        found = Locked(line, key, token, part)
        with found.client() as client:
            until(lambda: client.get("/v1/providers").json()["data"], "the provider has enrolled")
        yield found


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


def test_nothing_logs_a_key(locked: Locked) -> None:
    for part in locked.line.parts:
        assert locked.key[-30:] not in part.log
        assert locked.token[-30:] not in part.log
