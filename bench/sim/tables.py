"""
DynamoDB in memory for the calls that InferLine makes, with AWS's bill for each of them.

It takes the place of the client that the stores of `inferline.aws` call, so it counts their own
calls with their own items. Time is the running loop's. It passes `tests/contract`.
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

#: The date when virtual time begins, milliseconds since 1970.
EPOCH_MS = 1_800_000_000_000
#: How long a call takes, seconds.
CALL_SECONDS = 0.005
#: The most that a query or a scan brings at once, bytes.
PAGE_BYTES = 1 << 20

#: The purpose that calls are counted by; tasks started meanwhile inherit it.
purpose: ContextVar[str] = ContextVar("purpose", default="other")


class Table:
    """Rows by partition and sort key, with the indexes of live tasks and of ended ones."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Item]] = defaultdict(dict)
        self._names: dict[str, list[str]] = defaultdict(list)
        #: Deadlines and keys, in order, by the index's value.
        self._live: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        #: Keys by the index's value. A task that has ended never leaves.
        self._ended: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)
        self._bytes: dict[int, int] = {}

    def put(self, item: Item) -> Item:
        """Put a row. Return the row that was at its key, empty for none."""
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
        """Remove a row. Return it, empty for none."""
        before = self.rows[pk].pop(sk, {})
        if before:
            self._names[pk].remove(sk)
            self._unindex(before)
        return before

    def get(self, key: Item) -> Item:
        """Return the row at a key, empty for none."""
        return self.rows[key["pk"]["S"]].get(key["sk"]["S"], {})

    def bytes(self, item: Item) -> int:
        """Return the size of a row."""
        return self._bytes[id(item)] if item else 0

    def partition(self, pk: str, first: str = "", last: str = "\x7f") -> list[Item]:
        """Return the rows of a partition from the sort key ``first`` to ``last``."""
        names = self._names[pk]
        selected = names[bisect_left(names, first) : bisect_right(names, last)]
        return [self.rows[pk][name] for name in selected]

    def ended(self, value: str) -> list[Item]:
        """Return the entries of the index of ended tasks that have a value."""
        return [ended_entry(self.rows[pk][sk]) for pk, sk in self._ended.get(value, ())]

    def live(self, value: str | None = None) -> list[Item]:
        """Return the entries of the index of live tasks that have a value, or all."""
        groups = self._live.values() if value is None else [self._live[value]]
        return [self._projected(*place) for places in groups for place in places]

    def _projected(self, deadline_ms: int, pk: str, sk: str) -> Item:
        row = self.rows[pk][sk]
        return {name: row[name] for name in ("pk", "sk", LIVE_KEY, "deadline_ms")}

    def _unindex(self, item: Item) -> None:
        self._bytes.pop(id(item), None)
        if LIVE_KEY in item:
            places = self._live[item[LIVE_KEY]["S"]]
            del places[bisect_left(places, _place(item))]


def ended_entry(item: Item) -> Item:
    """Return a row's entry in the index of ended tasks; empty if it has none."""
    names = ("pk", "sk", ENDED_KEY, *ENDED_FIELDS) if ENDED_KEY in item else ()
    return {name: item[name] for name in names if name in item}


def _place(item: Item) -> tuple[int, str, str]:
    return int(item["deadline_ms"]["N"]), item["pk"]["S"], item["sk"]["S"]


class Tables:
    """All tables, and the client that the stores call."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = defaultdict(Table)
        #: The calls made, by their purpose and subject: tasks, or a kind of the registry's rows.
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
            "TransactWriteItems": self._transact,
        }

    def now_ms(self) -> int:
        """Return the loop's time as milliseconds since 1970."""
        return EPOCH_MS + int(asyncio.get_running_loop().time() * 1000)

    async def call(
        self, service: str, operation: str, request: Mapping[str, Any], **_: object
    ) -> Item:
        """Do what DynamoDB does, and count it. Raises ClientError for a condition that fails."""
        await asyncio.sleep(CALL_SECONDS)
        for kind in ("Names", "Values"):  # AWS refuses them where they are empty.
            assert request.get(f"ExpressionAttribute{kind}") != {}
        tally = self.tallies[purpose.get(), _subject(request)]
        tally.calls[operation] += 1
        return self._operations[operation](dict(request), tally)

    def _get(self, request: Item, tally: Tally) -> Item:
        table = self.tables[request["TableName"]]
        item = table.get(request["Key"])
        tally.reads += _reads(table.bytes(item), consistent=request.get("ConsistentRead", False))
        return {"Item": item} if item else {}

    def _batch_get(self, request: Item, tally: Tally) -> Item:
        responses = {}
        for name, wanted in request["RequestItems"].items():
            table, consistent = self.tables[name], wanted.get("ConsistentRead", False)
            items = [table.get(key) for key in wanted["Keys"]]
            tally.reads += sum(_reads(table.bytes(i), consistent=consistent) for i in items)
            responses[name] = [item for item in items if item]
        return {"Responses": responses}

    def _query(self, request: Item, tally: Tally) -> Item:
        """Read a partition, or an index. The values are named as the stores' queries name them."""
        table, values = self.tables[request["TableName"]], request["ExpressionAttributeValues"]
        partition = values[":pk"]["S"]
        if request.get("IndexName") == LIVE_KEY:
            return self._page(request, tally, table.live(partition))
        if request.get("IndexName") == ENDED_KEY:
            return self._page(request, tally, table.ended(partition))
        first = values.get(":first", {"S": ""})["S"]
        last = values.get(":last", {"S": "\x7f"})["S"]
        rows = table.partition(partition, first, last)
        if not request.get("ScanIndexForward", True):
            rows = rows[::-1]
        return self._page(request, tally, rows)

    def _scan(self, request: Item, tally: Tally) -> Item:
        assert request["IndexName"] == LIVE_KEY
        return self._page(request, tally, self.tables[request["TableName"]].live())

    def _page(self, request: Item, tally: Tally, rows: list[Item]) -> Item:
        """Return as many ``rows`` as one answer takes, from where the last page ended."""
        table, start = self.tables[request["TableName"]], request.get("ExclusiveStartKey")
        begin = _begin(rows, start, forward=request.get("ScanIndexForward", True)) if start else 0
        page: list[Item] = []
        size = 0
        for row in rows[begin : begin + request.get("Limit", len(rows))]:
            length = item_bytes(row) if "IndexName" in request else table.bytes(row)
            if size + length > PAGE_BYTES:
                break
            page.append(row)
            size += length
        tally.reads += _reads(size, consistent=request.get("ConsistentRead", False))
        end = begin + len(page)
        return {"Items": page} | (
            {"LastEvaluatedKey": {"at": {"N": str(end)}}} if end < len(rows) else {}
        )

    def _put(self, request: Item, tally: Tally) -> Item:
        table, item = self.tables[request["TableName"]], request["Item"]
        before = table.get(item)
        self._check(request, before, table.bytes(before), tally)
        size = table.bytes(before)
        table.put(item)
        tally.writes += _writes(max(size, table.bytes(item))) + (LIVE_KEY in item)
        tally.stored += table.bytes(item)
        return _old(request, before)

    def _update(self, request: Item, tally: Tally) -> Item:
        table = self.tables[request["TableName"]]
        before = table.get(request["Key"])
        size = table.bytes(before)
        self._check(request, before, size, tally)
        item = updated(
            request["UpdateExpression"],
            request.get("ExpressionAttributeNames", {}),
            request.get("ExpressionAttributeValues", {}),
            before or request["Key"],
        )
        table.put(item)
        tally.writes += _writes(max(size, table.bytes(item))) + _index_writes(before, item)
        # UPDATED_NEW returns the attributes that did not change as well.
        returns_new = request.get("ReturnValues") in ("ALL_NEW", "UPDATED_NEW")
        return {"Attributes": item} if returns_new else {}

    def _delete(self, request: Item, tally: Tally) -> Item:
        table, key = self.tables[request["TableName"]], request["Key"]
        before = table.get(key)
        size = table.bytes(before)
        self._check(request, before, size, tally)
        table.remove(key["pk"]["S"], key["sk"]["S"])
        tally.writes += _writes(size)
        return _old(request, before)

    def _batch_write(self, request: Item, tally: Tally) -> Item:
        for name, entries in request["RequestItems"].items():
            for entry in entries:
                put = {"TableName": name, "Item": entry["PutRequest"]["Item"]}
                self._put(put, tally)
        return {}

    def _transact(self, request: Item, tally: Tally) -> Item:
        """Make all puts or none: each is billed twice."""
        puts = [part["Put"] for part in request["TransactItems"]]
        reasons = [self._refusal(put) for put in puts]
        if any(reason["Code"] != "None" for reason in reasons):
            raise _client_error("TransactionCanceledException", CancellationReasons=reasons)
        for put in puts:
            self._put({**put, "ConditionExpression": None}, tally)
            tally.writes += _writes(item_bytes(put["Item"]))
        return {}

    def _refusal(self, put: Item) -> Item:
        """Return why a transaction's put is refused, with the row as it is; or that it is not."""
        before = self.tables[put["TableName"]].get(put["Item"])
        if _meets_condition(put, before):
            return {"Code": "None"}
        return {"Code": "ConditionalCheckFailed", **_shown_row(put, before)}

    def _check(self, request: Item, before: Item, size: int, tally: Tally) -> None:
        """Refuse a write whose condition does not hold. It is billed all the same."""
        if _meets_condition(request, before):
            return
        tally.writes += _writes(size)
        raise _client_error("ConditionalCheckFailedException", **_shown_row(request, before))


def _meets_condition(request: Item, before: Item) -> bool:
    condition = request.get("ConditionExpression")
    names = request.get("ExpressionAttributeNames", {})
    values = request.get("ExpressionAttributeValues", {})
    return condition is None or holds(condition, names, values, before)


def _shown_row(request: Item, before: Item) -> Item:
    """Return the row that a refusal shows, if the request wants it and there is one."""
    shows = request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
    return {"Item": before} if shows and before else {}


def _client_error(code: str, **details: Any) -> ClientError:
    response: Item = {"Error": {"Code": code, "Message": ""}, **details}
    return ClientError(response, "")  # type: ignore[arg-type]


def total(tallies: Iterable[Tally]) -> Tally:
    """Add tallies up."""
    total_tally = Tally()
    for tally in tallies:
        total_tally = total_tally - tally.times(-1)
    return total_tally


def _begin(rows: list[Item], start: Item, *, forward: bool) -> int:
    """Return where a page begins: by a place of ours, or behind a sort key (it need not exist)."""
    if "at" in start:
        return int(start["at"]["N"])
    after = start["sk"]["S"]
    return sum(row["sk"]["S"] <= after if forward else row["sk"]["S"] >= after for row in rows)


def _subject(request: Mapping[str, Any]) -> str:
    """Return what a call is about: tasks, or a kind of the registry's rows."""
    if "TransactItems" in request:
        return "tasks"
    name, *_ = [request["TableName"]] if "TableName" in request else request["RequestItems"]
    if not name.endswith("registry"):
        return "tasks"
    row = request.get("Item") or request.get("Key")
    if "RequestItems" in request:
        row = request["RequestItems"][name]["Keys"][0]
    pk = row["pk"] if row else request["ExpressionAttributeValues"][":pk"]
    return str(pk["S"]).lower()


def _index_writes(before: Item, item: Item) -> int:
    """Return the units of an update in the indexes, which a task's row may enter and leave."""
    entry = {} if ENDED_KEY in before else ended_entry(item)
    moved = before.get(LIVE_KEY) != item.get(LIVE_KEY)
    return moved + (_writes(item_bytes(entry)) if entry else 0)


def _old(request: Item, before: Item) -> Item:
    return {"Attributes": before} if before and request.get("ReturnValues") == "ALL_OLD" else {}


def _reads(size: int, *, consistent: bool) -> float:
    return max(1, ceil(size / READ_BYTES)) * (1 if consistent else 0.5)


def _writes(size: int) -> int:
    return max(1, ceil(size / WRITE_BYTES))
