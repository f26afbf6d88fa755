"""
A proxy before the emulator that counts what AWS would bill: every call that any process makes, and
the units that it would cost.

The units follow from the items' sizes by AWS's rules; the emulator is not asked for them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Self

from aiohttp import web

from tests.support import aws_proxy

Item = dict[str, Any]

#: SQS bills a call for each piece of its payload of this size, DynamoDB a unit for each of its own.
SQS_BYTES = 64 * 1024
WRITE_BYTES = 1024
READ_BYTES = 4 * 1024

#: The attribute that puts a task's row into the index of unfinished ones: one more write each way.
LIVE = "live"
#: And the one that puts it into the index of ended ones: its entry is of one unit.
ENDED = "ended"

#: The fields of a tally that are plain numbers.
_NUMBERS = ("sqs", "fair", "writes", "reads", "puts", "gets", "stored")


@dataclass(slots=True)
class Tally:
    """Calls by operation, and their units."""

    calls: Counter[str] = field(default_factory=Counter)
    #: SQS: requests of 64 KB, and those of them that carry a message group (a fair queue).
    sqs: float = 0
    fair: float = 0
    #: DynamoDB: write and read request units. S3: puts and gets.
    writes: float = 0
    reads: float = 0
    puts: float = 0
    gets: float = 0
    #: DynamoDB: bytes of the items that were put.
    stored: float = 0

    def __sub__(self, other: Tally) -> Tally:
        return self._with(other, -1)

    def times(self, factor: float) -> Tally:
        """Return everything so many times."""
        return Tally()._with(self, factor)

    def _with(self, other: Tally, factor: float) -> Tally:
        names = self.calls.keys() | other.calls.keys()
        calls: Counter[str] = Counter()
        for name in names:
            calls[name] = self.calls[name] + factor * other.calls[name]  # type: ignore[assignment]
        return Tally(
            calls, *(getattr(self, name) + factor * getattr(other, name) for name in _NUMBERS)
        )

    def copy(self) -> Tally:
        """Return the tally as of now."""
        return self.times(1)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Self:
        """Return the tally from a file's content."""
        return cls(Counter(raw["calls"]), *(raw[name] for name in _NUMBERS))

    def raw(self) -> dict[str, Any]:
        """Return everything, for the file."""
        return {"calls": dict(self.calls), **{name: getattr(self, name) for name in _NUMBERS}}


class Proxy(aws_proxy.Proxy):
    """Passes everything on to the emulator, and counts."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.tally = Tally()

    async def handle(self, request: web.Request) -> web.Response:
        """Pass a call on, and count it with its answer."""
        body = await request.read()
        response = await self.pass_on(request, body)
        assert isinstance(response.body, bytes)
        self._count(request, body, response.body)
        return response

    def _count(self, request: web.Request, body: bytes, answer: bytes) -> None:
        service, _, operation = request.headers.get("X-Amz-Target", "").partition(".")
        tally = self.tally
        if service == "AmazonSQS":
            tally.calls[f"sqs {operation}"] += 1
            units = max(1, ceil(max(len(body), len(answer)) / SQS_BYTES))
            tally.sqs += units
            tally.fair += units if b'"MessageGroupId"' in body else 0
        elif service.startswith("DynamoDB"):
            tally.calls[f"dynamodb {operation}"] += 1
            reads, writes = units_of(operation, json.loads(body), json.loads(answer or b"{}"))
            tally.reads += reads
            tally.writes += writes
            tally.stored += stored_by(operation, json.loads(body))
        else:
            tally.calls[f"s3 {request.method}"] += 1
            tally.puts += request.method == "PUT"
            tally.gets += request.method == "GET"


def units_of(operation: str, asked: Item, response: Item) -> tuple[float, float]:
    """Read and write request units of a call on a table on demand, from the sizes of its items."""
    match operation:
        case "GetItem":
            size = item_bytes(response.get("Item", {}))
            return _reads([size], consistent=asked.get("ConsistentRead", False)), 0
        case "BatchGetItem":
            return sum(_batch_reads(asked, response)), 0
        case "Query" | "Scan":
            size = sum(map(item_bytes, response.get("Items", [])))
            return _reads([size], consistent=asked.get("ConsistentRead", False)), 0
        case "PutItem":
            return 0, _writes([item_bytes(asked["Item"])]) + (LIVE in asked["Item"])
        case "UpdateItem":
            # The larger of before and after; ours grow. A refused one is billed all the same.
            item = response.get("Attributes") or response.get("Item") or asked["Key"]
            return 0, _writes([item_bytes(item)]) + _leaves_index(asked) + _ends(asked)
        case "DeleteItem":
            return 0, 1
        case "BatchWriteItem":
            return 0, _writes(map(item_bytes, _put_by(operation, asked)))
    return 0, 0


def stored_by(operation: str, asked: Item) -> int:
    """Return the bytes of the items that a call puts."""
    return sum(map(item_bytes, _put_by(operation, asked)))


def _put_by(operation: str, asked: Item) -> list[Item]:
    if operation == "PutItem":
        return [asked["Item"]]
    if operation != "BatchWriteItem":
        return []
    return [
        request.get("PutRequest", {}).get("Item", {})
        for requests in asked["RequestItems"].values()
        for request in requests
    ]


def _leaves_index(asked: Item) -> bool:
    """Return whether an update takes a row out of the index of unfinished tasks: one more write."""
    _, _, removed = asked.get("UpdateExpression", "").partition("REMOVE ")
    names = asked.get("ExpressionAttributeNames", {})
    return LIVE in (names.get(name.strip(), name.strip()) for name in removed.split(","))


def _ends(asked: Item) -> bool:
    """Return whether an update puts a row into the index of ended tasks."""
    return ENDED in asked.get("ExpressionAttributeNames", {}).values()


def _batch_reads(asked: Item, response: Item) -> Iterable[float]:
    for name, wanted in asked["RequestItems"].items():
        items = response.get("Responses", {}).get(name, [])
        missing = [0] * (len(wanted["Keys"]) - len(items))
        consistent = wanted.get("ConsistentRead", False)
        # With a projection the answer shows less than was read; what we project fits one unit.
        yield _reads([*map(item_bytes, items), *missing], consistent=consistent)


def _reads(sizes: Iterable[int], *, consistent: bool) -> float:
    """Return a unit for each 4 KB of each item, also of one that is not there; half if eventual."""
    return sum(max(1, ceil(size / READ_BYTES)) for size in sizes) * (1 if consistent else 0.5)


def _writes(sizes: Iterable[int]) -> float:
    return sum(max(1, ceil(size / WRITE_BYTES)) for size in sizes)


def item_bytes(item: Item) -> int:
    """Return an item's size as DynamoDB counts it: names and values of its attributes."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Item) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "B":
            return len(content) * 3 // 4 - content[-2:].count("=")
        case "N":
            return len(content.strip("-").replace(".", "")) // 2 + 2
        case "L":
            return 3 + sum(1 + _value_bytes(each) for each in content)
        case "M":
            return 3 + sum(
                1 + len(name.encode()) + _value_bytes(each) for name, each in content.items()
            )
    return 1
