"""A task and its chunks as the rows of the tasks table: their keys, and what stands in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final
from zlib import crc32

from inferline.aws.api.items import from_item
from inferline.errors import ProviderFault
from inferline.streams.packing import PLAIN_BYTES_MAX, pack, unpack
from inferline.tasks.store import TaskStatus, Wanted
from inferline.tasks.task import (
    CHUNK_BYTES_MAX,
    TAIL_BYTES_MAX,
    AnswerHead,
    Chunk,
    State,
    Task,
    TaskRef,
)
from inferline.usage.usage import SLICE_MS
from inferline.validation.output_rules import check_chunk, check_row

#: The row's schema, so that a later release can tell.
ROW_VERSION: Final = 1
STATE_KEY: Final = "STATE"
#: A row's attribute and an index on it, by deadline: only rows of live tasks have it.
LIVE_KEY: Final = "live"
#: A row's attribute and an index on it: only rows of tasks that have ended have it. It names a
#: slice of time and a shard.
ENDED_KEY: Final = "ended"
#: What the index has of a row besides.
ENDED_FIELDS: Final = (
    *("tenant", "key_id", "model", "owner", "state", "status", "usage", "attempt"),
    *("created_ms", "claimed_ms", "ended_ms"),
)
#: Into how many partitions of the index the tasks of a slice go: each takes a thousand a second.
SHARDS: Final = 8

#: What an attribute with bytes is called when they are packed.
_PACKED: Final = {"data": "packed", "tail": "packed_tail"}

_ROW_FIELDS: Final = tuple(f.name for f in fields(Task) if f.name != "ref")

Item = dict[str, Any]

#: What comes of reading a row that nobody of ours wrote.
_UNREADABLE: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def row_key(ref: TaskRef, sk: str) -> Item:
    """The key of one of a task's rows, marshalled."""
    return {"pk": {"S": ref.pk}, "sk": {"S": sk}}


def chunk_key(attempt: int, seq: int) -> str:
    """The sort key of a chunk. It sorts before the STATE row's."""
    return f"A{attempt:03}#{seq:06}"


def ending(ref: TaskRef, now_ms: int) -> dict[str, Any]:
    """What the row of a task that ends now gets besides: by it the usage ledger finds the task."""
    shard = crc32(ref.id.encode()) % SHARDS
    return {"ended_ms": now_ms, ENDED_KEY: ended_key(now_ms // SLICE_MS, shard)}


def ended_key(number: int, shard: int) -> str:
    """The key, in the index, of a shard of the tasks that ended in a slice of time."""
    return f"{number}#{shard}"


def wanted_keys(want: Wanted) -> list[str]:
    """The sort keys of all that a reader asks for."""
    seqs = range(want.seq, want.seq + want.count)
    return [STATE_KEY, *(chunk_key(want.attempt, seq) for seq in seqs)]


def new_row(task: Task, token: str) -> dict[str, Any]:
    """The STATE row of a live task, with the token of the write that makes it."""
    row = {name: getattr(task, name) for name in _ROW_FIELDS}
    row |= {"pk": task.ref.pk, "sk": STATE_KEY, "v": ROW_VERSION, "token": token}
    row[LIVE_KEY] = task.ref.slug
    return {name: value for name, value in row.items() if value not in ("", b"", {})}


def read_task(item: Item) -> Task:
    """The task that a STATE row tells of. Raises ProviderFault where it is none."""
    try:
        task = _task_of(from_item(item))
    except _UNREADABLE as error:
        raise ProviderFault("row") from error
    check_row(task)
    return task


def read_chunk(ref: TaskRef, attempt: int, seq: int, item: Item) -> Chunk:
    """The chunk that a row holds. Raises ProviderFault where it is none."""
    try:
        chunk = _chunk_of(ref, attempt, seq, from_item(item))
    except _UNREADABLE as error:
        raise ProviderFault("chunk") from error
    check_chunk(chunk)
    return chunk


def read_standing(item: Item, now_s: float) -> TaskStatus | None:
    """
    How the task of a STATE row stands, of which no more is needed; None where it is none, or over.
    """
    try:
        row = from_item(item)
        if row["ttl"] <= now_s:
            return None
        return TaskStatus(State(row["state"]), int(row["attempt"]), int(row.get("reader_ms", 0)))
    except _UNREADABLE:
        return None


def _task_of(row: Mapping[str, Any]) -> Task:
    known = {name: row[name] for name in _ROW_FIELDS if name in row}
    known["state"] = State(known["state"])
    if _PACKED["tail"] in row:
        known["tail"] = _unpacked(row[_PACKED["tail"]], TAIL_BYTES_MAX)
    return Task(ref=TaskRef.from_pk(row["pk"]), **known)


def answer_bytes(name: str, data: bytes, *, packs: bool) -> dict[str, bytes]:
    """
    Some of an answer as an attribute of that name; if it ``packs``, packed where that pays.
    """
    if not packs or len(data) <= PLAIN_BYTES_MAX:
        return {name: data}
    return {_PACKED[name]: pack(data)}


def chunk_row(chunk: Chunk, *, packs: bool) -> dict[str, Any]:
    """The row of a chunk."""
    row: dict[str, Any] = {
        "pk": chunk.ref.pk,
        "sk": chunk_key(chunk.attempt, chunk.seq),
        "ttl": chunk.ttl,
        **answer_bytes("data", chunk.data, packs=packs),
    }
    if chunk.head is not None:
        head = chunk.head
        row["head"] = [head.status, head.content_type, head.provider, head.queue_ms]
        if head.after:  # Beside the head: an earlier release reads that as four values.
            row["after"] = [list(segment) for segment in head.after]
    return row


def _chunk_of(ref: TaskRef, attempt: int, seq: int, row: Mapping[str, Any]) -> Chunk:
    head = None
    if "head" in row:
        after = tuple((earlier, count) for earlier, count in row.get("after", ()))
        status, content_type, provider, queue_ms = row["head"]
        head = AnswerHead(status, content_type, provider, queue_ms, after)
    packed = row.get(_PACKED["data"])
    data = row["data"] if packed is None else _unpacked(packed, CHUNK_BYTES_MAX)
    return Chunk(ref, attempt, seq, data, row["ttl"], head)


def _unpacked(packed: bytes, bytes_max: int) -> bytes:
    """What was packed. Raises ValueError where nothing was, or too much."""
    data = unpack(packed, bytes_max)
    if not data:
        raise ValueError("not packed, or too large")
    return data
