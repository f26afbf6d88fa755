"""
The end of a batch: its two files, made of what its shards have committed, and its last status.

Whoever repeats it makes the same files, so it may be broken off at any point, or done twice.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from inferline.batches.batch import Batch, BatchStatus
from inferline.batches.charging import charge
from inferline.batches.progress import counted
from inferline.batches.shards import delete_inputs, read_rows
from inferline.batches.work import Work
from inferline.errors import Unavailable
from inferline.files.content import SEGMENT_BYTES, write_manifest
from inferline.files.file import (
    BATCH_OUTPUT,
    FileSegment,
    StoredFile,
    bytes_of,
    file_segment_key,
)
from inferline.files.ids import new_id
from inferline.tasks.shard import SegmentKind, input_key, segment_key
from inferline.tasks.task import State, Task

#: Why a line has no result, and whether it counts as failed.
_REASONS: Final[dict[str, str]] = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed, because the batch was cancelled.",
    "provider_lost": "The providers that ran this request were lost. Send it again.",
}
_CODES: Final = {State.EXPIRED: "batch_expired", State.CANCELLED: "batch_cancelled"}


@dataclass(slots=True)
class _Files:
    """The segments of a batch's two files, and the lines that have no result."""

    output: list[FileSegment] = field(default_factory=list)
    error: list[FileSegment] = field(default_factory=list)
    #: How many lines have no result, by the code that says why.
    undone: dict[str, int] = field(default_factory=dict)


async def finalize(work: Work) -> None:
    """
    Make a batch's files and end it; no shard of it may run any more.

    Raises WorkLost and Unavailable.
    """
    await _begin(work)
    rows = await read_rows(work.parts, work.batch, consistent=True)
    files = await _collect(work, rows)
    await _put_file(work, work.batch.output_file_id, "output", files.output)
    await _put_file(work, work.batch.error_file_id, "error", files.error)
    before = work.batch
    await work.save(**_ended(work, counted(work.batch, rows, work.now_ms()), files))
    await charge(work.parts, before, work.batch)
    with suppress(Unavailable):  # They are deleted by themselves some days later.
        await delete_inputs(work)


async def _begin(work: Work) -> None:
    """Choose the ids of the files, once, so that every repetition writes the same files."""
    batch, now_ms = work.batch, work.now_ms()
    if batch.output_file_id:
        return
    changes: dict[str, Any] = {"output_file_id": new_id("file-", now_ms)}
    changes["error_file_id"] = new_id("file-", now_ms)
    if batch.status != "cancelling":
        changes |= {"status": "finalizing", "finalizing_ms": now_ms}
    await work.save(**changes)


async def _collect(work: Work, rows: Sequence[Task | None]) -> _Files:
    """Return the segments of both files, having written those of the lines without a result."""
    batch, files = work.batch, _Files()
    for number, row in enumerate(rows):
        shard = row.shard if row else None
        for segment in shard.segments if shard else ():
            key = segment_key(batch.slug, batch.id, number, segment)
            segments = files.output if segment.kind == "output" else files.error
            segments.append(FileSegment(key, segment.bytes))
    written = 0
    async for data in _undone_segments(work, rows, files):
        key = file_segment_key(batch.tenant, batch.error_file_id, written)
        await work.parts.objects.put(key, data)
        files.error.append(FileSegment(key, len(data)))
        written += 1
    return files


async def _undone_segments(
    work: Work, rows: Sequence[Task | None], files: _Files
) -> AsyncIterator[bytes]:
    """Yield the error lines of all lines without a result, in pieces."""
    data = bytearray()
    # Else a provider has written that a shard has fewer lines: its input tells how many.
    counts_fit = sum(row.shard.lines for row in rows if row and row.shard) == work.batch.total
    for number, row in enumerate(rows):
        await work.keep()
        if counts_fit and _is_done(row):
            continue
        code = _code(work.batch, row)
        for at, custom_id in await _undone_lines(work, number, row):
            files.undone[code] = files.undone.get(code, 0) + 1
            data += _error_line(work.batch, number, at, custom_id, code)
        if len(data) >= SEGMENT_BYTES:
            yield bytes(data)
            data.clear()
    if data:
        yield bytes(data)


def _is_done(row: Task | None) -> bool:
    shard = row.shard if row else None
    return shard is not None and shard.done.bit_count() == shard.lines


def _code(batch: Batch, row: Task | None) -> str:
    """Return why lines of a shard have no result."""
    if row is not None and row.state is State.FAILED:
        return "provider_lost"
    if batch.status == "cancelling":
        return "batch_cancelled"
    if row is not None:
        return _CODES.get(row.state, "provider_lost")
    return "batch_expired" if batch.expires_ms <= batch.finalizing_ms else "provider_lost"


async def _undone_lines(work: Work, number: int, row: Task | None) -> list[tuple[int, str]]:
    """Return the place and the `custom_id` of a shard's lines without a result."""
    batch = work.batch
    body = await work.parts.objects.get(input_key(batch.slug, batch.id, number))
    done = row.shard.done if row and row.shard else 0
    return [
        (at, json.loads(line)["custom_id"])
        for at, line in enumerate(body.split(b"\n")[:-1])
        if not done >> at & 1
    ]


def _error_line(batch: Batch, number: int, at: int, custom_id: str, code: str) -> bytes:
    digest = blake2b(f"{batch.id}/{number}/{at}".encode()).digest()
    line = {
        "id": new_id("batch_req_", batch.created_ms, lambda bits: _bits(digest, bits)),
        "custom_id": custom_id,
        "response": None,
        "error": {"code": code, "message": _REASONS[code]},
    }
    return json.dumps(line).encode() + b"\n"


def _bits(digest: bytes, bits: int) -> int:
    return int.from_bytes(digest[: bits // 8])


async def _put_file(
    work: Work, file_id: str, kind: SegmentKind, segments: Sequence[FileSegment]
) -> None:
    """Write a file's manifest and description, unless it would be empty."""
    if not segments:
        return
    batch = work.batch
    await write_manifest(work.parts.objects, batch.tenant, file_id, segments)
    created_ms = batch.finalizing_ms or batch.cancelling_ms
    await work.parts.files.put_file(
        StoredFile(
            id=file_id,
            tenant=batch.tenant,
            bytes=bytes_of(segments),
            created_ms=created_ms,
            expires_ms=created_ms + batch.output_seconds_kept * 1000,
            filename=f"{batch.id}_{kind}.jsonl",
            purpose=BATCH_OUTPUT,
        )
    )


def _ended(work: Work, batch: Batch, files: _Files) -> dict[str, Any]:
    """Return the changes that end a batch."""
    status: BatchStatus = "completed"
    if batch.status == "cancelling":
        status = "cancelled"
    elif "batch_expired" in files.undone or (not batch.total and _is_late(batch)):
        status = "expired"
    return {
        "status": status,
        f"{status}_ms": work.now_ms(),
        "completed": batch.completed,
        "failed": batch.failed + files.undone.get("provider_lost", 0),
        "usage": batch.usage,
        "counted_ms": batch.counted_ms,
        "output_file_id": batch.output_file_id if files.output else "",
        "error_file_id": batch.error_file_id if files.error else "",
    }


def _is_late(batch: Batch) -> bool:
    return batch.expires_ms <= batch.finalizing_ms
