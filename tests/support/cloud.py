"""The AWS of the Lambda functions: a stack on an emulator, its clients, providers and events."""

from __future__ import annotations

import asyncio
import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferline.accounts.caller import Role
from inferline.accounts.keys import new_key
from inferline.accounts.rate_counters import ConditionalUpdate, LimitOwner
from inferline.aws.api.client import AwsClient
from inferline.aws.dynamodb.keys import DynamoKeys
from inferline.aws.dynamodb.minutes import DynamoMinutes
from inferline.aws.dynamodb.rate_counters import DynamoRateCounters
from inferline.aws.dynamodb.registry import DynamoRegistry
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.aws.dynamodb.tenants import DynamoTenants
from inferline.aws.dynamodb.usage import DynamoUsage
from inferline.aws.sqs import SqsQueue, SqsQueueMaker
from inferline.fleet.aggregation import FleetAggregator
from inferline.fleet.registry import Model, ProviderRecord
from inferline.settings import Settings
from inferline.tasks.queue import Message
from inferline.tasks.store import Claimed
from inferline.tasks.task import AnswerHead, Chunk, Task
from inferline.usage.minutes import MinuteMetrics, total
from tests.support.runtime_api import Function

EVENTS = Path(__file__).resolve().parents[1] / "functions" / "events"
#: In every prompt, and never in a function's log.
CANARY = "canary-93c7"
MODEL = "test-model"


def recorded(name: str, **changes: Any) -> dict[str, Any]:
    """Read a recorded event, and change some of its top-level fields."""
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event | copy.deepcopy(changes)


def chat(**fields: Any) -> dict[str, Any]:
    """Build the body of a chat request, with the canary in it."""
    return {"model": MODEL, "messages": [{"role": "user", "content": CANARY}], **fields}


@dataclass(slots=True)
class Cloud:
    """One stack's tables and queues on the emulator."""

    settings: Settings
    client: AwsClient
    #: Texts that must not be in a log.
    secrets: list[str] = field(default_factory=lambda: [CANARY])

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment of the stack's functions."""
        return {
            "INFERLINE_STACK": self.settings.stack,
            "INFERLINE_ACCESS": "keys",
            "AWS_ENDPOINT_URL": self.settings.endpoint_url,
            "POWERTOOLS_SERVICE_NAME": self.settings.stack,
        }

    @property
    def store(self) -> DynamoTaskStore:
        return DynamoTaskStore(self.client, self.settings.tasks_table)

    @property
    def queue(self) -> SqsQueue:
        return SqsQueue(self.client)

    @property
    def registry(self) -> DynamoRegistry:
        return DynamoRegistry(self.client, self.settings.registry_table, 35.0)

    @property
    def maker(self) -> SqsQueueMaker:
        return SqsQueueMaker(self.client, self.settings)

    @property
    def keys(self) -> DynamoKeys:
        return DynamoKeys(self.client, self.settings.registry_table)

    @property
    def usage(self) -> DynamoUsage:
        settings = self.settings
        return DynamoUsage(
            self.client, settings.tasks_table, settings.registry_table, days_kept=400
        )

    @property
    def tenants(self) -> DynamoTenants:
        return DynamoTenants(self.client, self.settings.registry_table)

    async def rate_counters(self, kind: Any, owner: str) -> Any:
        """Read the counters of a key or a tenant: a refused write shows the row."""
        rate_counters = DynamoRateCounters(self.client, self.settings.registry_table)
        _, row = await rate_counters.change(
            LimitOwner(kind, owner), ConditionalUpdate(equal={"open": -9}), "look"
        )
        return row

    async def minutes(self) -> MinuteMetrics:
        """Read the metrics that the functions have written so far."""
        return total(await DynamoMinutes(self.client, self.settings.registry_table).since(0))

    async def know(self, model: str = MODEL) -> None:
        """Enrol a model, with a provider that serves it."""
        await self.registry.put_models([Model(id=model, queues=await self.maker.make(model))])
        provider = ProviderRecord(
            id="p1", models=(model,), slots=4, running=0, healthy=True, version="1"
        )
        await self.registry.put_provider(provider)
        await FleetAggregator(self.registry, 0.0).aggregate_change()

    async def key(self, role: Role = "client", **fields: Any) -> tuple[str, str]:
        """Make a new key. Return its id and its text."""
        defaults = {"tenant": "acme", "now_ms": self.client.now_ms()}
        key, text = new_key(role, "a-key", **defaults | fields)
        await self.keys.put_key(key)
        self.secrets.append(text)
        return key.id, text

    async def take(self, model: str = MODEL) -> Task:
        """Receive and claim the next task, as a provider would."""
        url = (await self.maker.make(model))["default"]
        (delivery,) = await self.queue.receive(
            url, limit=1, wait_seconds=20, visibility_timeout_seconds=30
        )
        claim = await self.store.claim(Message.loads(delivery.text).ref, "p1", 30)
        assert isinstance(claim, Claimed)
        return claim.task

    async def write(self, task: Task, seq: int, data: bytes) -> None:
        """Write a chunk of a stream."""
        head = AnswerHead(200, "text/event-stream", "p1", task.queue_ms) if seq == 0 else None
        await self.store.write_chunks([Chunk(task.ref, task.attempt, seq, data, task.ttl, head)])


def metrics(function: Function) -> dict[str, Any]:
    """Read all metrics in a log, by name: value and dimensions."""
    by_name: dict[str, Any] = {}
    for line in function.output.splitlines():
        entry = json.loads(line) if line.startswith("{") else {}
        for directive in entry.get("_aws", {}).get("CloudWatchMetrics", []):
            assert "InferLine" == directive["Namespace"]
            dimensions = [name for names in directive["Dimensions"] for name in names]
            for metric in directive["Metrics"]:
                values = entry[metric["Name"]]
                by_name[metric["Name"]] = (*values, *(entry[d] for d in dimensions))
    return by_name


async def invoked(function: Function, event: Any, seconds: float = 30.0) -> Any:
    """Invoke a function with an event in a thread. Return its answer."""
    return await asyncio.to_thread(function.invoke, event, seconds)
