"""Conversion of tasks and chunks to rows of the tasks table and back, and the rows' keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final
from zlib import crc32

from inferline.aws.api.items import from_item
from inferline.aws.dynamodb.table import Item, key_of
from inferline.errors import ProviderFault
from inferline.streams.packing import PLAIN_BYTES_MAX, pack, unpack
from inferline.tasks.shard import Shard
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

#: The version of the row's schema, for later releases.
ROW_VERSION: Final = 1
STATE_KEY: Final = "STATE"
#: An attribute that only rows of live tasks have, and the index on it, by deadline.
LIVE_KEY: Final = "live"
#: An attribute that only rows of ended tasks have, a slice of time and a shard, and its index.
ENDED_KEY: Final = "ended"
#: The attributes of a row that this index has as well.
ENDED_FIELDS: Final = (
    *("tenant", "key_id", "model", "owner", "state", "status", "usage", "attempt"),
    *("created_ms", "claimed_ms", "ended_ms"),
)
#: How many partitions the index has for each slice of time: each takes a thousand tasks a second.
SHARDS: Final = 8

#: The attributes that hold packed bytes, by those that hold plain ones.
_PACKED: Final = {"data": "packed", "tail": "packed_tail"}

_ROW_FIELDS: Final = tuple(f.name for f in fields(Task) if f.name != "ref")

#: What reading raises for a row that a hostile provider wrote.
_UNREADABLE: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def row_key(ref: TaskRef, sk: str) -> Item:
    """Return the key of one of a task's rows, with typed values."""
    return key_of(ref.pk, sk)


def chunk_key(attempt: int, seq: int) -> str:
    """Return the sort key of a chunk. It sorts before the STATE row's."""
    return f"A{attempt:03}#{seq:06}"


def end_attributes(ref: TaskRef, now_ms: int) -> dict[str, Any]:
    """Build the attributes of a task that ends now: the usage ledger finds the task by them."""
    shard = crc32(ref.id.encode()) % SHARDS
    return {"ended_ms": now_ms, ENDED_KEY: ended_key(now_ms // SLICE_MS, shard)}


def ended_key(number: int, shard: int) -> str:
    """Return the index's key of one shard of the tasks that ended in a slice of time."""
    return f"{number}#{shard}"


def wanted_keys(want: Wanted) -> list[str]:
    """Return the sort keys of all rows that a reader wants."""
    seqs = range(want.seq, want.seq + want.count)
    return [STATE_KEY, *(chunk_key(want.attempt, seq) for seq in seqs)]


def new_row(task: Task, write_id: str) -> dict[str, Any]:
    """Build the STATE row of a new task, with the id of the write that makes it."""
    row = {name: getattr(task, name) for name in _ROW_FIELDS}
    row |= {"pk": task.ref.pk, "sk": STATE_KEY, "v": ROW_VERSION, "token": write_id}
    row[LIVE_KEY] = task.ref.slug
    row |= shard_attributes(task)
    return {name: value for name, value in row.items() if value not in ("", b"", {}, None)}


def shard_attributes(task: Task) -> dict[str, Any]:
    """Build the attributes of a shard's progress and usage; none for a request."""
    shard = task.shard
    return {} if shard is None else {"shard": shard.as_row(), "usage": shard.spent}


def read_task(item: Item) -> Task:
    """Read the task of a STATE row. Raises ProviderFault for a row that is none."""
    try:
        task = _task_of(from_item(item))
    except _UNREADABLE as error:
        raise ProviderFault("row") from error
    check_row(task)
    return task


def read_chunk(ref: TaskRef, attempt: int, seq: int, item: Item) -> Chunk:
    """Read the chunk of a row. Raises ProviderFault for a row that is none."""
    try:
        chunk = _chunk_of(ref, attempt, seq, from_item(item))
    except _UNREADABLE as error:
        raise ProviderFault("chunk") from error
    check_chunk(chunk)
    return chunk


def read_status(item: Item, now_s: float) -> TaskStatus | None:
    """Read only the status of a STATE row; None for a row that is none, or past its time."""
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
    if "shard" in known:
        known["shard"] = Shard.from_row(known["shard"])
    if _PACKED["tail"] in row:
        known["tail"] = _unpacked(row[_PACKED["tail"]], TAIL_BYTES_MAX)
    return Task(ref=TaskRef.from_pk(row["pk"]), **known)


def answer_bytes(name: str, data: bytes, *, packs: bool) -> dict[str, bytes]:
    """Build an attribute with bytes of an answer, packed if ``packs`` is set and it saves space."""
    if not packs or len(data) <= PLAIN_BYTES_MAX:
        return {name: data}
    return {_PACKED[name]: pack(data)}


def chunk_row(chunk: Chunk, *, packs: bool) -> dict[str, Any]:
    """Build a chunk's row."""
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
    """Unpack bytes. Raises ValueError if they are no packed ones, or too many."""
    data = unpack(packed, bytes_max)
    if not data:
        raise ValueError("not packed, or too large")
    return data
