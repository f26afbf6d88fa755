"""Uploads and their parts on each of their stores."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from inferline.files.file import FileSegment
from inferline.files.ids import new_id
from inferline.files.upload import Upload, UploadPart

HOUR_MS = 3_600_000


def new_upload(now_ms: int) -> Upload:
    return Upload(
        id=new_id("upload_", now_ms),
        tenant="t",
        bytes=10,
        created_ms=now_ms,
        expires_ms=now_ms + HOUR_MS,
        filename="lines.jsonl",
        purpose="batch",
        file_seconds=3600,
    )


def new_part(upload: Upload, at: int = 0) -> UploadPart:
    part_id = new_id("part_", upload.created_ms + at)
    segments = (FileSegment(f"files/t/{part_id}/0", 3), FileSegment(f"files/t/{part_id}/1", 2))
    return UploadPart(
        id=part_id, upload_id=upload.id, created_ms=upload.created_ms + at, segments=segments
    )


async def test_an_upload_is_read_back_by_its_tenant_alone(seams: Any) -> None:
    upload = new_upload(seams.store.now_ms())
    await seams.uploads.put_upload(upload)

    assert upload == await seams.uploads.upload("t", upload.id)
    assert await seams.uploads.upload("other", upload.id) is None


async def test_parts_added_at_once_are_all_there(seams: Any) -> None:
    upload = new_upload(seams.store.now_ms())
    await seams.uploads.put_upload(upload)
    parts = [new_part(upload, at) for at in range(3)]

    adding = [seams.uploads.add_part(upload, part, bytes_max=20) for part in parts]
    assert [True] * 3 == await asyncio.gather(*adding)

    assert parts == await seams.uploads.parts(upload.id)


async def test_parts_are_refused_beyond_their_bytes(seams: Any) -> None:
    upload = new_upload(seams.store.now_ms())
    await seams.uploads.put_upload(upload)

    added = [
        await seams.uploads.add_part(upload, new_part(upload, at), bytes_max=10) for at in range(3)
    ]

    assert [True, True, False] == added
    assert 2 == len(await seams.uploads.parts(upload.id))


async def test_an_upload_ends_once_and_then_takes_no_part(seams: Any) -> None:
    upload = new_upload(seams.store.now_ms())
    await seams.uploads.put_upload(upload)
    completed = replace(upload, status="completed", file_id="file-x", completed_ms=5)

    assert await seams.uploads.end_upload(completed)
    assert not await seams.uploads.end_upload(replace(upload, status="cancelled"))
    assert not await seams.uploads.add_part(upload, new_part(upload), bytes_max=99)

    assert completed == await seams.uploads.upload("t", upload.id)
