"""
The stack deployed for real, to an emulator that checks rights, and used as its users use it.

The tests stand in the order of a stack's life: what comes last destroys it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
import openai
import pytest
from botocore.exceptions import ClientError

from inferline.gateway.app import open_gateway
from inferline.gateway.routes import page
from inferline.local import web
from inferline.local.llm import model
from inferline.names import slug
from inferline.settings import Settings
from inferline.tasks.queue import Message
from inferline.tasks.task import TaskRef
from infra import node
from infra.emulator import Deployment
from infra.inventory import inventory
from tests.support.line import until
from tests.support.llm import model_path

#: The first test waits for all that comes before it.
pytestmark = pytest.mark.timeout(900)

#: In every prompt, so that it can be looked for where no prompt may be.
CANARY = "canary-7f3a"
#: Known from the start, though no provider has it.
DECLARED = "declared-7b"
#: A provider that tries what it may not.
BY_HAND = "by-hand"
#: A gateway outside of the stack.
GATEWAY = "own-gateway"
CHAT: dict[str, Any] = {
    "model": model.ALIAS,
    "messages": [{"role": "user", "content": f"Say hello to {CANARY}."}],
    "max_tokens": 8,
}


@dataclass(slots=True)
class Made:
    """A deployed stack with a provider, and what its operator knows."""

    deployment: Deployment
    key: str
    token: str
    #: What was in the account before the stack.
    before: set[str]
    printed: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.deployment.url

    def openai(self, key: str | None = None) -> openai.OpenAI:
        """Return the SDK as an application has it, but for its retries."""
        base_url = f"{self.url}/v1"
        return openai.OpenAI(base_url=base_url, api_key=key or self.key, max_retries=0)

    def aws(self, service: str, credentials: dict[str, Any] | None = None) -> Any:
        """Return a client of the operator, or of whose credentials these are."""
        session = boto3.Session(
            aws_access_key_id=credentials["access_key"] if credentials else "test",
            aws_secret_access_key=credentials["secret_key"] if credentials else "test",
            aws_session_token=credentials["token"] if credentials else None,
            region_name="us-east-1",
        )
        return session.client(service, endpoint_url=self.deployment.emulator_url)


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    """Yield the stack, deployed once, with a provider before a real model."""
    if not Path(node.command("cdk")[1]).exists() and not os.environ.get("CI"):
        pytest.skip("the CDK's command line is not installed; `make synth` installs it")
    model_path()  # Fetched before the stack, so that its time is nobody else's.
    printed: list[str] = []
    with (
        # Not pytest's, which would keep hundreds of megabytes of it.
        tempfile.TemporaryDirectory() as folder,
        Deployment(Path(folder), printed.append, os.environ, [DECLARED]) as deployment,
    ):
        deployment.prepare()
        before = inventory(deployment.emulator_url)
        deployment.deploy()
        key = deployment.secret("keys", "create", "--name", "my-app")
        token = deployment.secret("providers", "token", "--models", "*")
        deployment.start_llm()
        deployment.start_provider(token, key)
        yield Made(deployment, key, token, before, printed)


def test_the_openai_sdk_gets_a_real_answer(made: Made) -> None:
    with made.openai() as client:
        answer = client.chat.completions.create(**CHAT)

    assert answer.choices[0].message.content
    assert 0 < answer.usage.completion_tokens <= 8


def test_a_stream_has_all_its_events(made: Made) -> None:
    with made.openai() as client:
        events = list(client.chat.completions.create(**CHAT, stream=True))

    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert text
    assert len(events) > 2


def test_a_body_too_large_for_a_message_reaches_the_model_through_s3(made: Made) -> None:
    """The model's own refusal shows that it has seen all of it."""
    messages = [{"role": "user", "content": "word " * 50_000}]

    with made.openai() as client, pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{**CHAT, "messages": messages})

    assert "exceed_context_size_error" == refused.value.body["type"]  # type: ignore[call-overload,index]


def test_models_and_providers_are_listed(made: Made) -> None:
    with made.openai() as client:
        listed = [one.id for one in client.models.list()]
    providers = web.ask(f"{made.url}/v1/providers", None, 10.0, made.key)["data"]

    # The emulator may have called the sweep by now, which brings the declared one.
    assert [model.ALIAS] == [name for name in listed if name != DECLARED]
    assert ["emulated"] == [provider["id"] for provider in providers]


@pytest.mark.parametrize("name", ["x-api-key", "api-key"])
def test_a_key_may_stand_where_each_sdk_puts_it(made: Made, name: str) -> None:
    printed = httpx.get(f"{made.url}/v1//models/", headers={name: made.key}, timeout=60)
    head = httpx.head(f"{made.url}/v1/models", headers={name: made.key})

    assert [200, 200] == [printed.status_code, head.status_code]
    assert "model" == printed.json()["data"][0]["type"]


def test_a_request_sent_again_with_its_key_is_one_task_that_can_be_asked_for(made: Made) -> None:
    headers = {"authorization": f"Bearer {made.key}", "idempotency-key": "sent-twice"}

    url = f"{made.url}/v1/chat/completions"
    answers = [httpx.post(url, json=CHAT, headers=headers, timeout=60) for _ in range(2)]

    assert [200, 200] == [answer.status_code for answer in answers]
    [task_id] = {answer.headers["x-request-id"] for answer in answers}
    printed = web.ask(f"{made.url}/v1/tasks/{task_id}", None, 30.0, made.key)
    assert ("DONE", answers[0].json()) == (printed["state"], printed["result"])


def test_what_was_used_is_told_by_the_functions_rights(made: Made) -> None:
    headers = {"authorization": f"Bearer {made.key}"}
    answer = httpx.post(f"{made.url}/v1/chat/completions", json=CHAT, headers=headers, timeout=60)

    listed = web.ask(f"{made.url}/v1/usage/requests", None, 30.0, made.key)["data"]
    printed = web.ask(f"{made.url}/v1/usage?by=tenant,key&since=12h", None, 30.0, made.key)

    assert answer.headers["x-request-id"] in {row["id"] for row in listed}
    assert {made.key.split("_")[1]} == {row["key"] for row in listed}
    assert "list" == printed["object"]


def test_a_file_comes_back_byte_for_byte_and_is_listed_until_it_is_deleted(made: Made) -> None:
    content = f'{{"custom_id": "é {CANARY}"}}\r\n'.encode()

    with made.openai() as client:
        file = client.files.create(file=("lines.jsonl", content), purpose="batch")
        listed = [each.id for each in client.files.list(purpose="batch")]
        back = client.files.content(file.id).read()
        client.files.delete(file.id)
        after = [each.id for each in client.files.list()]

    assert (content, [file.id], []) == (back, listed, after)


def test_a_large_file_comes_in_parts(made: Made) -> None:
    content = b"x" * 100 + b"\n"

    with made.openai() as client:
        upload = client.uploads.upload_file_chunked(
            file=content * 5,
            filename="a.jsonl",
            bytes=505,
            mime_type="text/plain",
            purpose="batch",
            part_size=200,
        )
        assert upload.file is not None
        back = client.files.content(upload.file.id).read()

    assert ("completed", content * 5) == (upload.status, back)


def test_a_batch_is_run_by_the_provider_and_led_by_the_sweep(made: Made) -> None:
    """The emulator's clock would call the sweep each minute; we do not wait for it."""
    lines = [
        {"custom_id": f"{n}", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
        for n in range(3)
    ]
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    limited = ("--name", "batches", "--tokens-per-day", "1000000")

    with made.openai(made.deployment.secret("keys", "create", *limited)) as client:
        file = client.files.create(file=("lines.jsonl", content), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        until(lambda: is_completed(made, client, batch.id), "the batch is completed")
        batch = client.batches.retrieve(batch.id)
        assert batch.output_file_id is not None
        output = client.files.content(batch.output_file_id).text

    results = [json.loads(line) for line in output.splitlines()]
    assert ["0", "1", "2"] == sorted(result["custom_id"] for result in results)
    assert {200} == {result["response"]["status_code"] for result in results}


def is_completed(made: Made, client: openai.OpenAI, batch_id: str) -> bool:
    """Return whether a batch has ended, having called the sweep."""
    [sweep] = [name for name in functions(made) if "sweep" in name.lower()]
    made.aws("lambda").invoke(FunctionName=sweep, Payload=b"{}")
    return client.batches.retrieve(batch_id).status == "completed"


@pytest.mark.parametrize("key", ["none", "il_unknown", "of a provider", "mistyped"])
def test_nobody_else_is_answered(made: Made, key: str) -> None:
    shown = {"of a provider": made.token, "mistyped": made.key[:-1] + "~"}.get(key, key)
    headers = {} if key == "none" else {"authorization": f"Bearer {shown}"}

    answer = httpx.post(f"{made.url}/v1/chat/completions", json=CHAT, headers=headers, timeout=60)

    assert answer.status_code in (401, 403)
    assert {"message", "type", "param", "code"} == set(answer.json()["error"])


def test_a_client_cannot_enrol_a_provider(made: Made) -> None:
    assert 403 == enrol(made, made.key, "mine").status_code


async def test_a_gateway_of_ones_own_answers_with_the_policy_for_it(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands beside the functions, on the same tables and queues, as one in a container does."""
    for name, value in gateway_environment(made).items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_env(os.environ)
    async with open_gateway(settings, deployed=True) as app:
        through = httpx.ASGITransport(app)
        headers = {"authorization": f"Bearer {made.key}"}
        async with httpx.AsyncClient(
            transport=through, base_url="http://gateway/v1", headers=headers, timeout=60
        ) as client:
            answer = await client.post("/chat/completions", json=CHAT)
            overview = await client.get("/overview")
            file = await client.post(
                "/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", b"{}\n")}
            )
            content = await client.get(f"/files/{file.json()['id']}/content")
            refused = await client.get("/models", headers={"authorization": "Bearer il_unknown"})

    assert 200 == answer.status_code, answer.text
    assert answer.json()["choices"][0]["message"]["content"]
    assert ["emulated"] == [provider["id"] for provider in overview.json()["providers"]]
    assert b"{}\n" == content.content
    assert 401 == refused.status_code


def gateway_environment(made: Made) -> dict[str, str]:
    """Return the environment of a gateway whose role has the stack's policy and nothing else."""
    iam, stack = made.aws("iam"), made.aws("cloudformation")
    [described] = stack.describe_stacks(StackName="inferline")["Stacks"]
    outputs = {one["OutputKey"]: one["OutputValue"] for one in described["Outputs"]}
    iam.create_user(UserName=GATEWAY)
    iam.attach_user_policy(UserName=GATEWAY, PolicyArn=outputs["GatewayPolicy"])
    key = iam.create_access_key(UserName=GATEWAY)["AccessKey"]
    return {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": made.deployment.emulator_url,
        "INFERLINE_STACK": "inferline",
        "INFERLINE_ACCESS": "keys",
        "INFERLINE_BODIES_BUCKET": outputs["BodiesBucket"],
        "INFERLINE_FILES_BUCKET": outputs["FilesBucket"],
    }


def test_a_key_that_is_revoked_is_refused(made: Made) -> None:
    key = made.deployment.secret("keys", "create", "--name", "short-lived")
    made.deployment.operator("keys", "revoke", key.split("_")[1])

    with made.openai(key) as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_a_token_enrols_only_the_models_that_it_was_made_for(made: Made) -> None:
    token = made.deployment.secret("providers", "token", "--models", "small-*")

    assert 403 == enrol(made, token, "large").status_code


def enrol(made: Made, token: str, model_id: str) -> httpx.Response:
    """Return a provider's first word to the gateway; it never says another."""
    printed = {"id": BY_HAND, "version": "0", "slots": 0, "models": [{"id": model_id}]}
    headers = {"authorization": f"Bearer {token}"}
    return httpx.post(f"{made.url}/v1/providers", json=printed, headers=headers, timeout=60)


def test_lent_credentials_reach_the_own_model_and_nothing_else(made: Made) -> None:
    grant = enrol(made, made.token, "tiny").json()
    lent, tasks = grant["credentials"], grant["tasks_table"]
    sqs, dynamodb, s3 = (made.aws(service, lent) for service in ("sqs", "dynamodb", "s3"))
    own = grant["queues"]["tiny"]["default"]
    other = own.replace(slug("tiny"), slug(model.ALIAS))

    tried = {
        "own queue": lambda: sqs.receive_message(QueueUrl=own),
        "own task": lambda: read(dynamodb, tasks, f"{slug('tiny')}#1"),
        "other queue": lambda: sqs.receive_message(QueueUrl=other),
        "other task": lambda: read(dynamodb, tasks, f"{slug(model.ALIAS)}#1"),
        "sending": lambda: sqs.send_message(QueueUrl=own, MessageBody="x"),
        "all tasks": lambda: dynamodb.scan(TableName=tasks),
        "registry": lambda: read(dynamodb, tasks.replace("tasks", "registry"), "KEY"),
        "buckets": lambda: s3.list_buckets(),
        "own results": lambda: write(s3, grant["files_bucket"], slug("tiny")),
        "other results": lambda: write(s3, grant["files_bucket"], slug(model.ALIAS)),
        # A tenant may be called as the model is.
        "files": lambda: write(s3, grant["files_bucket"], f"files/{slug('tiny')}"),
        "own bodies": lambda: write(s3, grant["bodies_bucket"], slug("tiny")),
    }

    may = {"own queue", "own task", "own results"}
    assert may == {name for name, attempt in tried.items() if is_allowed(attempt)}


def read(dynamodb: Any, table: str, pk: str) -> None:
    """Read one row as providers do."""
    key = {"pk": {"S": pk}, "sk": {"S": "STATE"}}
    dynamodb.batch_get_item(RequestItems={table: {"Keys": [key]}})


def write(s3: Any, bucket: str, folder: str) -> None:
    """Write an object, as providers write the results of a batch."""
    s3.put_object(Bucket=bucket, Key=f"{folder}/batch_1/0/0-0.output.jsonl", Body=b"{}")


def is_allowed(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except ClientError as error:
        if "AccessDenied" not in error.response["Error"]["Code"]:
            raise
        return False
    return True


def test_the_sweep_and_the_dead_letters_work(made: Made) -> None:
    """The emulator's clock would call the sweep within a minute; we do not wait for it."""
    lambdas, sqs = made.aws("lambda"), made.aws("sqs")
    [sweep] = [name for name in functions(made) if "sweep" in name.lower()]
    [dead] = [url for url in sqs.list_queues()["QueueUrls"] if url.endswith("dead-letters")]
    message = Message(ref=TaskRef(slug("tiny"), "gone"), body=b"{}")

    answer = lambdas.invoke(FunctionName=sweep, Payload=b"{}")
    sqs.send_message(QueueUrl=dead, MessageBody=message.dumps())

    assert "FunctionError" not in answer, answer["Payload"].read()
    until(lambda: is_known(made, DECLARED), "the declared model is known")
    until(lambda: waiting(sqs, dead) == 0, "the dead letter is taken")


def is_known(made: Made, name: str) -> bool:
    """Return whether there is such a model; the list of all may be some seconds old."""
    with made.openai() as client, contextlib.suppress(openai.NotFoundError):
        return bool(client.models.retrieve(name))
    return False


def functions(made: Made) -> list[str]:
    return [one["FunctionName"] for one in made.aws("lambda").list_functions()["Functions"]]


def waiting(sqs: Any, queue: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(map(int, attributes.values()))


def test_the_status_shows_the_provider(made: Made) -> None:
    assert model.ALIAS in made.deployment.operator("status", key=made.key)


def browse(made: Made, path: str) -> httpx.Response:
    """Return what CloudFront answers to a browser."""
    host = httpx.URL(made.deployment.page_url).host
    return httpx.get(f"{made.deployment.emulator_url}{path}", headers={"host": host}, timeout=60)


@pytest.mark.parametrize("path", ["/", "/dashboard"])
def test_every_way_leads_to_the_page(made: Made, path: str) -> None:
    answer = browse(made, path)

    assert (307, "/dashboard/") == (answer.status_code, answer.headers["location"])
    assert made.deployment.page_url.endswith("/dashboard/")


def test_the_page_comes_through_cloudfront_as_from_a_gateway(made: Made) -> None:
    kinds = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}
    for file in page.folder().iterdir():
        answer = browse(made, f"/dashboard/{file.name}")

        assert 200 == answer.status_code, file
        kind = answer.headers["content-type"].partition(";")[0]
        assert kinds.get(file.suffix, "image/svg+xml") == kind
        assert page.HEADERS.items() <= answer.headers.items()
        if file.name != "index.html":
            assert file.read_bytes() == answer.content


def test_the_page_is_told_where_its_api_is(made: Made) -> None:
    shown = browse(made, "/dashboard/").text

    [place] = re.findall(r'<meta name="inferline-api" content="(.*)" data-clients="(.*)">', shown)
    assert "../api/v1/" == place[0]
    api = made.url.rpartition("/_aws/execute-api/")[2].removesuffix("/api")
    assert f"https://{api}.execute-api.us-east-1.amazonaws.com/api/v1" == place[1]
    source = (page.folder() / "index.html").read_text()
    assert 1 == len(set(source.splitlines()) - set(shown.splitlines()))


def test_nobody_was_denied_what_the_work_needs(made: Made) -> None:
    """Every function has run by now, with the rights of its own role."""
    denied = [line for line in made.deployment.log("emulator").splitlines() if "denied" in line]

    assert denied
    assert [] == [line for line in denied if BY_HAND not in line]


def test_no_log_holds_a_prompt_or_a_key(made: Made) -> None:
    logs = made.aws("logs")
    groups = [one["logGroupName"] for one in logs.describe_log_groups()["logGroups"]]
    events = [logs.filter_log_events(logGroupName=group)["events"] for group in groups]
    lines = [event["message"] for entry in events for event in entry]
    lines += made.deployment.log("provider").splitlines()
    secrets = (CANARY, made.key, made.token)

    assert len(lines) > 10
    assert [] == [line for line in lines if any(secret in line for secret in secrets)]


def test_a_second_deployment_changes_nothing(made: Made) -> None:
    assert "(no changes)" in made.deployment.deploy()


def test_destroying_it_leaves_nothing(made: Made) -> None:
    made.deployment.destroy()

    assert set() == inventory(made.deployment.emulator_url) - made.before
