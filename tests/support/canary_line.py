"""A whole line through which canaries fly, with everything that could write them down beside it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import httpx

from inferline.accounts.caller import Role
from inferline.accounts.keys import new_key, parse_key
from inferline.aws.api.client import AwsClient
from inferline.settings import Settings
from inferline.streams.packing import unpack
from tests.support import runtime_api
from tests.support.backend import BackendThread
from tests.support.canary import Aviary
from tests.support.cloud import Cloud
from tests.support.emulators import free_port
from tests.support.leaky_backend import HEADERS, Mouth
from tests.support.line import Line, Part, empty_line
from tests.support.otlp import Receiver, receiving

CHAT = "/v1/chat/completions"
#: Served well, served by an LLM server that fails, and by providers that the tests play.
MODEL, BAD, HELD, IDLE, FULL = (f"{kind}-model" for kind in ("good", "bad", "held", "idle", "full"))
QUEUE, TASKS, BUCKET, REGISTRY = "queues", "tasks table", "bucket", "registry table"
ERRORS, STREAMED_MAX = "InferLine's own errors", 16 * 1024 * 1024
#: Everything is quick, and told in all detail.
ENVIRON = {
    "INFERLINE_ACCESS": "keys",
    "INFERLINE_LOG_LEVEL": "debug",
    "LOG_LEVEL": "debug",
    "PYTHONASYNCIODEBUG": "",
    "OTEL_BSP_SCHEDULE_DELAY": "100",
    "INFERLINE_ATTEMPTS_MAX": "1",
    "INFERLINE_BODY_BYTES_MAX": "1000000",
    "INFERLINE_NO_PROVIDER_SECONDS": "1",
    "INFERLINE_QUEUE_DEPTH_MAX": "20",
    "INFERLINE_STRIKES_MAX": "1",
}
#: What of an item's binaries is packed.
_PACKED = ("packed", "packed_tail")


@dataclass(slots=True)
class Stage:
    """The line, and who acts on it."""

    line: Line
    aviary: Aviary
    collector: Receiver
    keys: dict[str, str]
    client: httpx.Client
    mouths: dict[str, Mouth] = field(default_factory=dict)
    #: The addresses at which providers tell metrics.
    printed: list[str] = field(default_factory=list)
    #: Gateways beside the one of the line, by name.
    others: dict[str, tuple[str, Part]] = field(default_factory=dict)

    def aws(self, service: str) -> Any:
        """Return a client of the operator."""
        return boto3.client(service, "us-east-1", endpoint_url=self.line.emulator_url)

    def chat(self, scene: str, says: str = "plain", model: str = MODEL, **printed: Any) -> Any:
        """
        Return a chat with canaries wherever a client may write, for a ``scene`` of an LLM server.
        """

        def word(what: str) -> str:
            return self.aviary.fly(f"{what} in {scene}", QUEUE)

        look = {"name": "look", "arguments": json.dumps({"at": word("arguments")})}
        call = {"id": word("call id"), "type": "function", "function": look}
        file = {"filename": word("file name"), "file_data": "data:text/plain;base64,aGk="}
        parts = [{"type": "text", "text": word("prompt")}, {"type": "file", "file": file}]
        messages = [
            {"role": "system", "content": word("system prompt")},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": word("tool result")},
        ]
        return {"model": model, "x_scene": says, "messages": messages, **printed}

    def post(
        self,
        body: Any,
        *,
        path: str = CHAT,
        at: str = "",
        key: str = "client",
        headers: Mapping[str, str] = {},
    ) -> httpx.Response:
        """Ask; ``at`` is another gateway's name. What InferLine itself says of it is noted."""
        return self.call("POST", path, body, at=at, key=key, headers=headers)

    def call(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        at: str = "",
        key: str = "client",
        headers: Mapping[str, str] = {},
    ) -> httpx.Response:
        """Return any request."""
        url = self.others[at][0] if at else self.line.url
        shown = {"authorization": f"Bearer {self.keys.get(key, key)}"}
        shown["content-type"] = "application/json"
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return self.client.request(verb, url + path, content=sent, headers={**shown, **headers})

    def queue_url(self, name: str) -> str:
        """Return the URL of the queue whose name has ``name`` in it, for the tier `default`."""
        urls = self.aws("sqs").list_queues(QueueNamePrefix="inferline-")["QueueUrls"]
        [url] = [url for url in urls if f"-{name}-" in url and url.endswith("-default")]
        return str(url)

    def rows(self, table: str = "inferline-tasks") -> list[dict[str, Any]]:
        """Return all items of a table."""
        client, items, request = self.aws("dynamodb"), [], {"TableName": table}
        while True:
            answer = client.scan(**request)
            items += answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return items
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def row_of(self, model: str) -> dict[str, Any] | None:
        """Return the row of a task of a model that waits."""
        for row in self.rows():
            if (row.get("model"), row.get("state")) == ({"S": model}, {"S": "QUEUED"}):
                return row
        return None

    def change(self, row: Mapping[str, Any], **values: Any) -> None:
        """Set attributes of a task's row, as a provider could."""
        self.aws("dynamodb").update_item(
            TableName="inferline-tasks",
            Key={name: row[name] for name in ("pk", "sk")},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
            ExpressionAttributeNames={f"#{name}": name for name in values},
            ExpressionAttributeValues={f":{name}": value for name, value in values.items()},
        )

    def enrol(self, provider: str, *models: str) -> httpx.Response:
        """Be a provider, as far as the gateway knows."""
        printed = {
            "id": provider,
            "version": "1",
            "slots": 1,
            "models": [{"id": m} for m in models],
        }
        return self.post(printed, path="/v1/providers", key="provider")

    def look_into_tables(self) -> None:
        """Note all that both tables hold."""
        for place, table in ((TASKS, "inferline-tasks"), (REGISTRY, "inferline-registry")):
            for row in self.rows(table):
                self.aviary.saw(place, repr(row))
                for name in _PACKED:
                    if name in row:
                        self.aviary.saw(place, unpack(row[name]["B"], STREAMED_MAX))

    def look_into_queues(self) -> None:
        """Note all messages, and leave them where they are."""
        sqs = self.aws("sqs")
        for url in sqs.list_queues()["QueueUrls"]:
            request = {"QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 0}
            for message in sqs.receive_message(**request).get("Messages", ()):
                self.aviary.saw(QUEUE, repr(message))

    def look_into_bucket(self) -> None:
        """Note all objects."""
        s3 = self.aws("s3")
        for bucket in ("inferline-bodies", "inferline-files"):
            for one in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
                self.aviary.saw(BUCKET, one["Key"])
                body = s3.get_object(Bucket=bucket, Key=one["Key"])
                self.aviary.saw(BUCKET, body["Body"].read())

    def look_into_logs(self) -> None:
        """Note all that the processes of the line have written."""
        for part in self.line.parts:
            self.aviary.saw(f"log of {part.name}", part.log)

    def invoke(self, name: str, *events: Any, **environ: str) -> list[Any]:
        """Have a function handle events, and note its log."""
        printed = {
            "AWS_ENDPOINT_URL": self.line.emulator_url,
            "INFERLINE_ACCESS": "keys",
            "INFERLINE_NO_PROVIDER_SECONDS": "1",
        }
        with runtime_api.running(f"functions.{name}.handler", printed | environ) as function:
            results = [function.invoke(event) for event in events]
            self.aviary.saw(f"log of the function {name}", function.output)
        for result in results:
            if result.error is not None:
                self.aviary.saw("errors of functions", json.dumps(result.error))
        return results

    def run(self, *arguments: str) -> None:
        """Note what a command prints."""
        environ = {"INFERLINE_BASE_URL": self.line.url, "INFERLINE_API_KEY": self.keys["client"]}
        done = subprocess.run(
            [sys.executable, "-m", "inferline", *arguments],
            env={**self.line.environ, **environ},
            capture_output=True,
            timeout=60,
        )
        assert 0 == done.returncode, done.stderr
        self.aviary.saw("commands", done.stdout + done.stderr)


async def _keys(url: str, aviary: Aviary) -> dict[str, str]:
    """Return a key of each kind; their secrets may be seen nowhere."""
    async with AwsClient("us-east-1", url) as client:
        cloud, texts = Cloud(Settings(endpoint_url=url), client), {}
        kinds: tuple[tuple[str, Role, str], ...] = (
            ("client", "client", "acme"),
            ("other", "client", "globex"),
            ("provider", "provider", "acme"),
            ("admin", "admin", "acme"),
        )
        for name, role, tenant in kinds:
            key, text = new_key(role, name, tenant=tenant, now_ms=client.now_ms())
            await cloud.keys.put_key(key)
            parsed = parse_key(text)
            assert parsed is not None
            aviary.guard(parsed.secret, f"the key of the {name}")
            texts[name] = text
        return texts


@contextmanager
def staged(start_others: Callable[[Stage], None]) -> Iterator[Stage]:
    """Yield the line: a gateway, two providers and their LLM servers, a collector of traces."""
    aviary = Aviary()
    with receiving() as collector, empty_line() as line, ExitStack() as stack:
        line.environ |= {**ENVIRON, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        line.start_gateway(INFERLINE_DRAIN_SECONDS="1")
        keys = asyncio.run(_keys(line.emulator_url, aviary))
        client = stack.enter_context(httpx.Client(timeout=60))
        stage = Stage(line, aviary, collector, keys, client)
        for model in (MODEL, BAD):
            mouth = stage.mouths[model] = Mouth(model, aviary)
            url = stack.enter_context(BackendThread(mouth)).url  # type: ignore[arg-type]
            _start_provider(stage, model, url)
        start_others(stage)
        wait(lambda: {MODEL, BAD} <= served(stage), "both providers have enrolled")
        yield stage


def _start_provider(stage: Stage, model: str, url: str) -> None:
    port, key = free_port(), stage.aviary.fly(f"the key of the LLM server of {model}", HEADERS)
    stage.printed.append(f"http://127.0.0.1:{port}")
    stage.line.start(
        "provider",
        *("tests.support.faulty", "provider"),
        *("--base-url", stage.line.url, "--backend", url, "--id", f"of-{model}"),
        *("--slots", "16", "--poll-seconds", "1", "--drain-seconds", "1"),
        *("--metrics-port", str(port)),
        environ={"INFERLINE_PROVIDER_TOKEN": stage.keys["provider"], "OPENAI_API_KEY": key},
    )


def served(stage: Stage) -> set[str]:
    """Return the models that somebody serves."""
    listed = stage.call("GET", "/v1/providers").json()["data"]
    return {model for provider in listed for model in provider["models"]}


def wait(look: Callable[[], Any], what: str, seconds: float = 120.0) -> Any:
    """Return what ``look`` gives as soon as that is true; in any thread. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := look():
            return result
        time.sleep(0.02)
    raise TimeoutError(what)
