"""Which step of a task's life a call to AWS is: that names the points where something may break."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

Json = dict[str, Any]

#: What a task's row becomes, where that alone tells the move.
_MOVES = {"DONE": "finish", "CANCELLED": "cancel", "EXPIRED": "expire", "FAILED": "fail"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call: ``site`` is what the code that makes it is about, such as ``tasks claim``."""

    site: str
    #: The numbers of the chunks that it writes.
    seqs: tuple[int, ...] = ()


def recognise(request: web.Request, body: bytes) -> Call:
    """Return what a call is for."""
    service, _, operation = request.headers.get("X-Amz-Target", "").partition(".")
    if service == "AmazonSQS":
        return Call(f"sqs {operation}")
    if not service.startswith("DynamoDB"):
        return Call(f"s3 {request.method} {_object(request.path)}")
    asked: Json = json.loads(body)
    table = _table(asked)
    match operation:
        case "UpdateItem" if table == "tasks":
            return Call(f"tasks {_move(asked)}")
        case "UpdateItem":
            return Call(f"{table} {_updated(asked)}")
        case "PutItem":
            return Call("tasks submit" if table == "tasks" else f"{table} {_put(asked)}")
        case "BatchWriteItem":
            return Call("tasks chunks", tuple(_seqs(asked)))
        case "BatchGetItem" if table == "registry":
            return Call("registry get usage rows")
        case "BatchGetItem" if b'"KEY"' in body:
            return Call("tasks bound")
        case "BatchGetItem":
            return Call("tasks states" if b'"ProjectionExpression"' in body else "tasks read")
        case "Query" if table == "registry":
            return Call(f"registry list {_queried(asked)}")
        case "Query":
            return Call(f"tasks {asked.get('IndexName', 'read')}")
        case "Scan":
            return Call("tasks all live")
        case "GetItem":
            return Call(f"{table} get {_kind(asked['Key'])}")
        case "TransactWriteItems":
            return Call("tasks submit once")
    return Call(f"{table} {operation}")


def _object(path: str) -> str:
    """Return what is under an address of S3; see `inferline.tasks.shard` and `inferline.files`."""
    _, _, key = path.strip("/").partition("/")
    if not key:
        return "bucket"
    if key.startswith("files/"):
        return "manifest" if key.endswith("/segments.json") else "file"
    if key.endswith("/lines.jsonl"):
        return "lines"
    return "results" if key.endswith(".jsonl") else "object"


def _table(asked: Json) -> str:
    """Return the last word of the table's name; empty where there are several tables or none."""
    name = asked.get("TableName") or next(iter(asked.get("RequestItems", {"": None})))
    return str(name).rpartition("-")[2]


def _move(asked: Json) -> str:
    """Return which move of a task an update is; see `inferline.task`."""
    values = asked["ExpressionAttributeValues"]
    if ":state" not in values:
        return "attend"
    target = values[":state"]["S"]
    if target == "FAILED" and ":fence" not in values:
        return "give up" if ":spent" in values else "bury"
    if target != "RUNNING":
        return _MOVES[target]
    if ":owner" in values:
        return "claim"
    return "hand back" if values[":lease_ms"] == {"N": "0"} else "renew"


def _updated(asked: Json) -> str:
    """Return what an update of the registry is about."""
    kind, values = _kind(asked["Key"]), asked["ExpressionAttributeValues"]
    match kind:
        case "model":
            return "count model" if ":turn" in values else "put model"
        case "fleet":
            return "take turn" if ":token" in values else "put sums"
        case "meter":
            return "close reservation" if values[":mark"]["S"].endswith("/") else "reserve"
    return f"add {kind}"


def _kind(key: Json) -> str:
    return _partition(key["pk"]["S"])


def _partition(pk: str) -> str:
    """Return what kind of rows a partition has; some kinds have one for each tenant."""
    kind, hash_sign, _ = pk.lower().partition("#")
    return f"{kind} of a tenant" if hash_sign else kind


def _put(asked: Json) -> str:
    return f"put {_kind(asked['Item'])}"


def _queried(asked: Json) -> str:
    return _partition(asked["ExpressionAttributeValues"][":pk"]["S"])


def _seqs(asked: Json) -> Iterator[int]:
    for puts in asked["RequestItems"].values():
        for put in puts:
            yield int(put["PutRequest"]["Item"]["sk"]["S"].partition("#")[2])
