"""Queries of DynamoDB whose answers come a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import call
from inferline.aws.dynamodb.task_rows import Item


async def queried(client: AwsClient, request: Mapping[str, Any]) -> AsyncIterator[Item]:
    """All items that a query finds, page after page. Raises Unavailable."""
    asked = dict(request)
    while True:
        answer = await call(client, "dynamodb", "Query", asked)
        for item in answer["Items"]:
            yield item
        if not answer.get("LastEvaluatedKey"):
            return
        asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
