"""
DynamoDB in memory, as far as InferLine's own calls go, and what AWS would bill for each of them.

It takes the place of the client that the stores of `inferline.aws` call, so what is counted are
their own calls with their own items. Time is the running loop's.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from math import ceil
from typing import Any

from botocore.exceptions import ClientError

from bench.harness.counting import READ_BYTES, WRITE_BYTES, Tally, item_bytes
from bench.sim.expressions import holds, updated
from inferline.aws.dynamodb.task_rows import ENDED_FIELDS, ENDED_KEY, LIVE_KEY

Item = dict[str, Any]

#: When virtual time began, milliseconds since 1970.
EPOCH_MS = 1_800_000_000_000
#: What a call takes, seconds.
CALL_SECONDS = 0.005
#: The most that a query or a scan brings at once, bytes.
PAGE_BYTES = 1 << 20

#: What is being done: calls are counted by it, those too that are made behind it.
purpose: ContextVar[str] = ContextVar("purpose", default="other")


class Table:
    """Rows by partition and name, with the indexes of live tasks and of ended ones."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Item]] = defaultdict(dict)
        self._names: dict[str, list[str]] = defaultdict(list)
        #: By the value of the index: deadlines and keys, in order.
        self._live: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        #: By the value of the index: keys. What has ended stays so.
        self._ended: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)
        self._bytes: dict[int, int] = {}

    def put(self, item: Item) -> Item:
        """Put a row in its place; gives the one that was there, empty for none."""
        pk, sk = item["pk"]["S"], item["sk"]["S"]
        before = self.rows[pk].get(sk, {})
        if not before:
            insort(self._names[pk], sk)
        self._unindex(before)
        self.rows[pk][sk] = item
        self._bytes[id(item)] = item_bytes(item)
        if LIVE_KEY in item:
            insort(self._live[item[LIVE_KEY]["S"]], _place(item))
        if ENDED_KEY in item:
            self._ended[item[ENDED_KEY]["S"]][pk, sk] = None
        return before

    def remove(self, pk: str, sk: str) -> Item:
        """Take a row away; gives it, empty for none."""
        before = self.rows[pk].pop(sk, {})
        if before:
            self._names[pk].remove(sk)
            self._unindex(before)
        return before

    def get(self, key: Item) -> Item:
        """The row at a key, empty for none."""
        return self.rows[key["pk"]["S"]].get(key["sk"]["S"], {})

    def bytes(self, item: Item) -> int:
        """The size of a row."""
        return self._bytes[id(item)] if item else 0

    def partition(self, pk: str, first: str = "", last: str = "\x7f") -> list[Item]:
        """The rows of a partition from the name ``first`` on, up to ``last``."""
        names = self._names[pk]
        found = names[bisect_left(names, first) : bisect_right(names, last)]
        return [self.rows[pk][name] for name in found]

    def ended(self, value: str) -> list[Item]:
        """The rows of ended tasks of one value of their index."""
        return [ended_entry(self.rows[pk][sk]) for pk, sk in self._ended.get(value, ())]

    def live(self, value: str | None = None) -> list[Item]:
        """The index's rows of one value, or of all."""
        among = self._live.values() if value is None else [self._live[value]]
        return [self._projected(*place) for places in among for place in places]

    def _projected(self, deadline_ms: int, pk: str, sk: str) -> Item:
        row = self.rows[pk][sk]
        return {name: row[name] for name in ("pk", "sk", LIVE_KEY, "deadline_ms")}

    def _unindex(self, item: Item) -> None:
        self._bytes.pop(id(item), None)
        if LIVE_KEY in item:
            places = self._live[item[LIVE_KEY]["S"]]
            del places[bisect_left(places, _place(item))]


def ended_entry(item: Item) -> Item:
    """What the index of ended tasks has of a row; empty if nothing."""
    names = ("pk", "sk", ENDED_KEY, *ENDED_FIELDS) if ENDED_KEY in item else ()
    return {name: item[name] for name in names if name in item}


def _place(item: Item) -> tuple[int, str, str]:
    return int(item["deadline_ms"]["N"]), item["pk"]["S"], item["sk"]["S"]


class Tables:
    """All tables, and the client that the stores call."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = defaultdict(Table)
        #: What was called, by what for and on what: a table, or a kind of the registry's rows.
        self.tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
        self._operations: dict[str, Callable[[Item, Tally], Item]] = {
            "GetItem": self._get,
            "BatchGetItem": self._batch_get,
            "Query": self._query,
            "Scan": self._scan,
            "PutItem": self._put,
            "UpdateItem": self._update,
            "DeleteItem": self._delete,
            "BatchWriteItem": self._batch_write,
        }

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return EPOCH_MS + int(asyncio.get_running_loop().time() * 1000)

    async def call(
        self, service: str, operation: str, asked: Mapping[str, Any], **_: object
    ) -> Item:
        """Do what DynamoDB does, and count it. Raises ClientError for a condition that fails."""
        await asyncio.sleep(CALL_SECONDS)
        tally = self.tallies[purpose.get(), _noun(asked)]
        tally.calls[operation] += 1
        return self._operations[operation](dict(asked), tally)

    def _get(self, asked: Item, tally: Tally) -> Item:
        table = self.tables[asked["TableName"]]
        item = table.get(asked["Key"])
        tally.reads += _reads(table.bytes(item), consistent=asked.get("ConsistentRead", False))
        return {"Item": item} if item else {}

    def _batch_get(self, asked: Item, tally: Tally) -> Item:
        told = {}
        for name, wanted in asked["RequestItems"].items():
            table, consistent = self.tables[name], wanted.get("ConsistentRead", False)
            found = [table.get(key) for key in wanted["Keys"]]
            tally.reads += sum(_reads(table.bytes(i), consistent=consistent) for i in found)
            told[name] = [item for item in found if item]
        return {"Responses": told}

    def _query(self, asked: Item, tally: Tally) -> Item:
        table, values = self.tables[asked["TableName"]], asked["ExpressionAttributeValues"]
        if asked.get("IndexName") == LIVE_KEY:
            return self._page(asked, tally, table.live(next(iter(values.values()))["S"]))
        if asked.get("IndexName") == ENDED_KEY:
            return self._page(asked, tally, table.ended(values[":ended"]["S"]))
        first, last = (
            values.get(f":{name}", {"S": end})["S"]
            for name, end in (("first", ""), ("last", "\x7f"))
        )
        pk = values[":kind" if ":kind" in values else ":pk"]["S"]
        return self._page(asked, tally, table.partition(pk, first, last))

    def _scan(self, asked: Item, tally: Tally) -> Item:
        assert asked["IndexName"] == LIVE_KEY
        return self._page(asked, tally, self.tables[asked["TableName"]].live())

    def _page(self, asked: Item, tally: Tally, rows: list[Item]) -> Item:
        """As much of ``rows`` as one answer takes, behind where the last one ended."""
        table, start = self.tables[asked["TableName"]], asked.get("ExclusiveStartKey")
        at = int(start["at"]["N"]) if start else 0
        found: list[Item] = []
        size = 0
        for row in rows[at : at + asked.get("Limit", len(rows))]:
            length = item_bytes(row) if "IndexName" in asked else table.bytes(row)
            if size + length > PAGE_BYTES:
                break
            found.append(row)
            size += length
        tally.reads += _reads(size, consistent=asked.get("ConsistentRead", False))
        end = at + len(found)
        return {"Items": found} | (
            {"LastEvaluatedKey": {"at": {"N": str(end)}}} if end < len(rows) else {}
        )

    def _put(self, asked: Item, tally: Tally) -> Item:
        table, item = self.tables[asked["TableName"]], asked["Item"]
        before = table.get(item)
        self._check(asked, before, table.bytes(before), tally)
        size = table.bytes(before)
        table.put(item)
        tally.writes += _writes(max(size, table.bytes(item))) + (LIVE_KEY in item)
        tally.stored += table.bytes(item)
        return _old(asked, before)

    def _update(self, asked: Item, tally: Tally) -> Item:
        table = self.tables[asked["TableName"]]
        before = table.get(asked["Key"])
        size = table.bytes(before)
        self._check(asked, before, size, tally)
        item = updated(
            asked["UpdateExpression"],
            asked.get("ExpressionAttributeNames", {}),
            asked.get("ExpressionAttributeValues", {}),
            before or asked["Key"],
        )
        table.put(item)
        tally.writes += _writes(max(size, table.bytes(item))) + _index_writes(before, item)
        # Of what is new, the attributes that did not change are told as well.
        is_told = asked.get("ReturnValues") in ("ALL_NEW", "UPDATED_NEW")
        return {"Attributes": item} if is_told else {}

    def _delete(self, asked: Item, tally: Tally) -> Item:
        table, key = self.tables[asked["TableName"]], asked["Key"]
        before = table.get(key)
        size = table.bytes(before)
        self._check(asked, before, size, tally)
        table.remove(key["pk"]["S"], key["sk"]["S"])
        tally.writes += _writes(size)
        return _old(asked, before)

    def _batch_write(self, asked: Item, tally: Tally) -> Item:
        for name, requests in asked["RequestItems"].items():
            for request in requests:
                put = {"TableName": name, "Item": request["PutRequest"]["Item"]}
                self._put(put, tally)
        return {}

    def _check(self, asked: Item, before: Item, size: int, tally: Tally) -> None:
        """Refuse what does not meet its condition, which is billed all the same."""
        condition = asked.get("ConditionExpression")
        names, values = (
            asked.get(f"ExpressionAttribute{kind}", {}) for kind in ("Names", "Values")
        )
        if condition is None or holds(condition, names, values, before):
            return
        tally.writes += _writes(size)
        response: Item = {"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}}
        if asked.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and before:
            response["Item"] = before
        raise ClientError(response, "")  # type: ignore[arg-type]


def total(tallies: Iterable[Tally]) -> Tally:
    """All of them together."""
    found = Tally()
    for tally in tallies:
        found = found - tally.times(-1)
    return found


def _noun(asked: Mapping[str, Any]) -> str:
    """What a call is about: tasks, or a kind of the registry's rows."""
    name, *_ = [asked["TableName"]] if "TableName" in asked else asked["RequestItems"]
    if not name.endswith("registry"):
        return "tasks"
    row = asked.get("Item") or asked.get("Key")
    if "RequestItems" in asked:
        row = asked["RequestItems"][name]["Keys"][0]
    pk = row["pk"] if row else asked["ExpressionAttributeValues"][":kind"]
    return str(pk["S"]).lower()


def _index_writes(before: Item, item: Item) -> int:
    """What an update costs besides, of a row that goes from one index into the other."""
    entry = {} if ENDED_KEY in before else ended_entry(item)
    moved = before.get(LIVE_KEY) != item.get(LIVE_KEY)
    return moved + (_writes(item_bytes(entry)) if entry else 0)


def _old(asked: Item, before: Item) -> Item:
    return {"Attributes": before} if before and asked.get("ReturnValues") == "ALL_OLD" else {}


def _reads(size: int, *, consistent: bool) -> float:
    return max(1, ceil(size / READ_BYTES)) * (1 if consistent else 0.5)


def _writes(size: int) -> int:
    return max(1, ceil(size / WRITE_BYTES))
