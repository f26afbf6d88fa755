"""The registry on DynamoDB: one partition of models, one of providers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from inferline.aws.client import AwsClient
from inferline.aws.faults import call
from inferline.aws.items import from_item, to_item
from inferline.registry import Model, Provider, Snapshot, TaskSpeed

MODELS: Final = "MODEL"
PROVIDERS: Final = "PROVIDER"
#: How long the row of a provider that is gone stays, seconds: people look for it.
PROVIDER_SECONDS_KEPT: Final = 24 * 3600


class DynamoRegistry:
    """`Registry` on one table."""

    def __init__(self, client: AwsClient, table: str, silent_seconds: float) -> None:
        self._client = client
        self._table = table
        self._silent_ms = int(silent_seconds * 1000)

    async def put_models(self, models: Sequence[Model]) -> None:
        """Make models known; see `Registry`."""
        await asyncio.gather(*(self._put(MODELS, m.id, asdict(m)) for m in models))

    async def put_provider(self, provider: Provider) -> None:
        """Say that a provider is live; see `Registry`."""
        seen_ms = self._client.now_ms()
        row = asdict(provider) | {
            "models": list(provider.models),
            "service_ms": int(provider.service_seconds * 1000),
            "millitokens_per_second": round(provider.tokens_per_second * 1000),
            "speeds": {name: _speed_row(speed) for name, speed in provider.speeds.items()},
            "seen_ms": seen_ms,
            "ttl": seen_ms // 1000 + PROVIDER_SECONDS_KEPT,
        }
        del row["service_seconds"], row["tokens_per_second"]
        await self._put(PROVIDERS, provider.id, row)

    async def remove_provider(self, provider_id: str) -> None:
        """Say that a provider has left; see `Registry`."""
        key = to_item({"pk": PROVIDERS, "sk": provider_id})
        await self._call("DeleteItem", Key=key)

    async def snapshot(self) -> Snapshot:
        """All models and the live providers; see `Registry`."""
        models, providers = await asyncio.gather(
            *(rows(self._client, self._table, kind) for kind in (MODELS, PROVIDERS))
        )
        heard_ms = self._client.now_ms() - self._silent_ms
        live = (_provider(row) for row in providers if row["seen_ms"] >= heard_ms)
        return Snapshot({row["id"]: _model(row) for row in models}, {p.id: p for p in live})

    async def _put(self, kind: str, name: str, row: dict[str, Any]) -> None:
        item = {**row, "pk": kind, "sk": name}
        await self._call("PutItem", Item=to_item({k: v for k, v in item.items() if v is not None}))

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        request = {"TableName": self._table, **arguments}
        return await call(self._client, "dynamodb", operation, request)


async def rows(
    client: AwsClient, table: str, kind: str, *, first: str = "", consistent: bool = True
) -> list[dict[str, Any]]:
    """
    All rows of one partition, or those from the name ``first`` on, in the order of their names.

    Raises Unavailable.
    """
    values = {":kind": kind} | ({":first": first} if first else {})
    request: dict[str, Any] = {
        "TableName": table,
        "KeyConditionExpression": "pk = :kind" + (" AND sk >= :first" if first else ""),
        "ExpressionAttributeValues": to_item(values),
        "ConsistentRead": consistent,
    }
    found: list[dict[str, Any]] = []
    while True:
        answer = await call(client, "dynamodb", "Query", request)
        found += [from_item(item) for item in answer["Items"]]
        if not answer.get("LastEvaluatedKey"):
            return found
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def _model(row: dict[str, Any]) -> Model:
    return Model(
        id=row["id"],
        queues=row["queues"],
        created=row["created"],
        owned_by=row["owned_by"],
        context_length=row.get("context_length"),
    )


def _provider(row: dict[str, Any]) -> Provider:
    return Provider(
        id=row["id"],
        models=tuple(row["models"]),
        slots=row["slots"],
        running=row["running"],
        healthy=row["healthy"],
        version=row["version"],
        service_seconds=row["service_ms"] / 1000,
        tokens_per_second=row.get("millitokens_per_second", 0) / 1000,
        reason=row.get("reason", ""),
        speeds={name: _speed(told) for name, told in row.get("speeds", {}).items()},
        seen_ms=row["seen_ms"],
    )


def _speed_row(speed: TaskSpeed) -> dict[str, int]:
    return {
        "task_ms": max(1, round(speed.task_seconds * 1000)),
        "millitokens_per_second": round(speed.tokens_per_second * 1000),
    }


def _speed(row: dict[str, int]) -> TaskSpeed:
    return TaskSpeed(row["task_ms"] / 1000, row["millitokens_per_second"] / 1000)
