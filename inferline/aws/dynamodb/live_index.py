"""The index of live tasks on DynamoDB: a row leaves it with the write that ends its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import call
from inferline.aws.api.items import from_item, to_item
from inferline.aws.dynamodb.task_rows import LIVE_KEY
from inferline.tasks.task import TaskRef


class LiveIndex:
    """Its reads, eventually consistent. Both raise Unavailable."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._client = client
        self._table = table

    async def of(self, slug: str, limit: int) -> list[tuple[TaskRef, int]]:
        """Up to ``limit`` live tasks of a model with their deadlines (ms), the earliest first."""
        asked = {
            "KeyConditionExpression": "#live = :slug",
            "ExpressionAttributeNames": {"#live": LIVE_KEY},
            "ExpressionAttributeValues": to_item({":slug": slug}),
        }
        return await self._found("Query", limit, asked)

    async def all(self, limit: int) -> list[tuple[TaskRef, int]]:
        """Up to ``limit`` live tasks of any models, the earliest first."""
        return sorted(await self._found("Scan", limit, {}), key=lambda one: one[1])

    async def _found(
        self, operation: str, limit: int, asked: Mapping[str, Any]
    ) -> list[tuple[TaskRef, int]]:
        found: list[tuple[TaskRef, int]] = []
        request = {"TableName": self._table, "IndexName": LIVE_KEY, **asked}
        while True:
            request["Limit"] = limit - len(found)
            answer = await call(self._client, "dynamodb", operation, request)
            rows = map(from_item, answer["Items"])
            found += [(TaskRef.from_pk(row["pk"]), row["deadline_ms"]) for row in rows]
            start = answer.get("LastEvaluatedKey")
            if start is None or len(found) >= limit:
                return found
            request["ExclusiveStartKey"] = start
