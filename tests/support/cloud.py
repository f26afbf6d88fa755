"""The functions' AWS: one stack's tables on an emulator, moves of clients and providers, events."""

from __future__ import annotations

import asyncio
import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferline.accounts.caller import Role
from inferline.accounts.keys import new_key
from inferline.accounts.rate_counters import ConditionalUpdate, Owner
from inferline.aws.api.client import AwsClient
from inferline.aws.dynamodb.keys import DynamoKeys
from inferline.aws.dynamodb.minutes import DynamoMinutes
from inferline.aws.dynamodb.rate_counters import DynamoMeters
from inferline.aws.dynamodb.registry import DynamoRegistry
from inferline.aws.dynamodb.tasks import DynamoTaskStore
from inferline.aws.dynamodb.tenants import DynamoTenants
from inferline.aws.dynamodb.usage import DynamoUsage
from inferline.aws.sqs import SqsQueue, SqsQueueMaker
from inferline.fleet.aggregation import FleetAggregator
from inferline.fleet.registry import Model, Provider
from inferline.settings import Settings
from inferline.tasks.queue import Message
from inferline.tasks.store import Claimed
from inferline.tasks.task import AnswerHead, Chunk, Task
from inferline.usage.minutes import MinuteMetrics, total
from tests.support.runtime_api import Function

EVENTS = Path(__file__).resolve().parents[1] / "functions" / "events"
#: What no function may ever write to its log; it is in every prompt.
CANARY = "canary-93c7"
MODEL = "test-model"


def recorded(name: str, **changes: Any) -> dict[str, Any]:
    """A recorded event, with changes at its top."""
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event | copy.deepcopy(changes)


def chat(**told: Any) -> dict[str, Any]:
    """A chat's body, with the canary in it."""
    return {"model": MODEL, "messages": [{"role": "user", "content": CANARY}], **told}


@dataclass(slots=True)
class Cloud:
    """One stack's tables and queues on the emulator."""

    settings: Settings
    client: AwsClient
    #: What must not be in a log.
    secrets: list[str] = field(default_factory=lambda: [CANARY])

    @property
    def environ(self) -> dict[str, str]:
        """What a function of the stack is told."""
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
        tables = self.settings.tasks_table, self.settings.registry_table
        return DynamoUsage(self.client, *tables, days_kept=400)

    @property
    def tenants(self) -> DynamoTenants:
        return DynamoTenants(self.client, self.settings.registry_table)

    async def meter(self, kind: Any, owner: str) -> Any:
        """What a key or a tenant has used: a write that can't be made tells the row."""
        meters = DynamoMeters(self.client, self.settings.registry_table)
        _, row = await meters.change(
            Owner(kind, owner), ConditionalUpdate(equal={"open": -9}), "look"
        )
        return row

    async def minutes(self) -> MinuteMetrics:
        """What the functions have written of their requests so far."""
        return total(await DynamoMinutes(self.client, self.settings.registry_table).since(0))

    async def know(self, model: str = MODEL) -> None:
        """Make a model known, with a provider for it."""
        await self.registry.put_models([Model(id=model, queues=await self.maker.make(model))])
        told = {"slots": 4, "running": 0, "healthy": True, "version": "1"}
        await self.registry.put_provider(Provider(id="p1", models=(model,), **told))
        await FleetAggregator(self.registry, 0.0).changed()

    async def key(self, role: Role = "client", **told: Any) -> tuple[str, str]:
        """A new key's id and text."""
        given = {"tenant": "acme", "now_ms": self.client.now_ms(), **told}
        key, text = new_key(role, "a-key", **given)
        await self.keys.put_key(key)
        self.secrets.append(text)
        return key.id, text

    async def take(self, model: str = MODEL) -> Task:
        """Receive and claim the next task, as a provider would."""
        url = (await self.maker.make(model))["default"]
        (found,) = await self.queue.receive(
            url, limit=1, wait_seconds=20, visibility_timeout_seconds=30
        )
        claim = await self.store.claim(Message.loads(found.text).ref, "p1", 30)
        assert isinstance(claim, Claimed)
        return claim.task

    async def write(self, task: Task, seq: int, data: bytes) -> None:
        """Write a chunk of a stream."""
        head = AnswerHead(200, "text/event-stream", "p1", task.queue_ms) if seq == 0 else None
        await self.store.write_chunks([Chunk(task.ref, task.attempt, seq, data, task.ttl, head)])


def metrics(function: Function) -> dict[str, Any]:
    """All metrics in a log, by name: value and dimensions."""
    found: dict[str, Any] = {}
    for line in function.output.splitlines():
        told = json.loads(line) if line.startswith("{") else {}
        for directive in told.get("_aws", {}).get("CloudWatchMetrics", []):
            assert "InferLine" == directive["Namespace"]
            dimensions = [name for names in directive["Dimensions"] for name in names]
            for metric in directive["Metrics"]:
                found[metric["Name"]] = (*told[metric["Name"]], *(told[d] for d in dimensions))
    return found


async def invoked(function: Function, event: Any, seconds: float = 30.0) -> Any:
    """What an event led to, while the test's own loop goes on."""
    return await asyncio.to_thread(function.invoke, event, seconds)
