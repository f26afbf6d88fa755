"""OpenAI's Uploads API: a file that comes in parts, for what one request can't bring."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from inferline.accounts.caller import Caller
from inferline.errors import FileNotFound, InvalidRequest, SizeLimitExceeded, Unavailable
from inferline.files.content import read_manifest, read_segments, write_manifest
from inferline.files.file import PURPOSES, FileSegment, StoredFile, bytes_of
from inferline.files.ids import is_id, new_id
from inferline.files.objects import ObjectStore
from inferline.files.upload import PARTS_MAX, Upload, UploadPart
from inferline.fleet.enrolment import STRICT_NUMBER
from inferline.gateway.errors import ERRORS
from inferline.gateway.files.descriptions import (
    FILENAME_CHARS_MAX,
    PRINTED,
    checked_filename,
    checked_seconds,
)
from inferline.gateway.files.objects import PartObject, UploadObject
from inferline.gateway.files.receiving import SegmentWriter, bound_of, receive_form
from inferline.gateway.parts import GatewayParts
from inferline.gateway.routes.access import ClientCaller
from inferline.gateway.routes.dependencies import Parts
from inferline.settings import FILE_SECONDS_MAX, FILE_SECONDS_MIN

#: What the parts of an upload may have together, as a multiple of its file: a client that lost an
#: answer sends a part again.
SENT_AGAIN: Final = 2

router = APIRouter(prefix="/uploads", tags=["files"], responses=ERRORS)

_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


class ExpiresAfter(BaseModel):
    """When the file of an upload expires."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=FILE_SECONDS_MIN, le=FILE_SECONDS_MAX), STRICT_NUMBER]


class NewUpload(BaseModel):
    """A file that is to come in parts."""

    #: Its length.
    bytes: Annotated[int, Field(ge=1), STRICT_NUMBER]
    filename: Annotated[str, Field(max_length=FILENAME_CHARS_MAX, pattern=PRINTED)]
    mime_type: str
    purpose: Literal[PURPOSES]  # type: ignore[valid-type]
    expires_after: ExpiresAfter | None = None


class UploadCompletion(BaseModel):
    """The parts that make the file."""

    #: In the order of their bytes.
    part_ids: Annotated[list[str], Field(min_length=1, max_length=PARTS_MAX)]
    #: Of the file, in hex.
    md5: str | None = None


@router.post("", summary="Begin an upload")
async def create_upload(wanted: NewUpload, caller: ClientCaller, parts: Parts) -> UploadObject:
    """Begin an upload, to which parts can be added for an hour (`INFERLINE_UPLOAD_SECONDS`)."""
    settings = parts.settings
    if wanted.bytes > settings.file_bytes_max:
        raise SizeLimitExceeded(
            f"A file may have {settings.file_bytes_max} bytes at most here. Split it.",
            param="bytes",
        )
    seconds = settings.file_seconds_kept
    if wanted.expires_after is not None:
        param = "expires_after.seconds"
        seconds = checked_seconds(wanted.expires_after.seconds, settings, param)
    now_ms = parts.store.now_ms()
    upload = Upload(
        id=new_id("upload_", now_ms),
        tenant=caller.tenant,
        bytes=wanted.bytes,
        created_ms=now_ms,
        expires_ms=now_ms + settings.upload_seconds * 1000,
        filename=checked_filename(wanted.filename),
        purpose=wanted.purpose,
        file_seconds=seconds,
    )
    await parts.uploads.put_upload(upload)
    return UploadObject.of(upload, now_ms)


@router.post("/{upload_id}/parts", summary="Add a part to an upload", openapi_extra=_FORM)
async def add_part(
    request: Request, upload_id: str, caller: ClientCaller, parts: Parts
) -> PartObject:
    """Add a part. Several may be sent at the same time, in any order."""
    upload = await _pending(parts, upload_id, caller)
    now_ms = parts.store.now_ms()
    part_id = new_id("part_", now_ms)
    bound = bound_of(request, parts.settings.upload_part_bytes_max, "part")
    writer = SegmentWriter(parts.objects, caller.tenant, part_id, bound)
    with request.app.transfers.admitted():
        async with writer.whole_or_nothing():
            await receive_form(request, writer, file_field="data")
            segments = await writer.finish()
            part = UploadPart(id=part_id, upload_id=upload_id, created_ms=now_ms, segments=segments)
            bytes_max = SENT_AGAIN * upload.bytes
            if not await parts.uploads.add_part(upload, part, bytes_max=bytes_max):
                raise InvalidRequest(
                    f"The upload has ended, has {PARTS_MAX} parts, or has more than "
                    f"{bytes_max} bytes in parts. Begin another one."
                )
    return PartObject.of(part)


@router.post("/{upload_id}/complete", summary="Complete an upload")
async def complete_upload(
    completion: UploadCompletion, upload_id: str, caller: ClientCaller, parts: Parts
) -> UploadObject:
    """Make a file of the parts, in the order of `part_ids`. Idempotent."""
    upload = await _upload_of(parts, upload_id, caller)
    if upload.status == "completed":
        # A repeat: the first time may have ended before the file's row was written.
        is_deleted = not await _has_content(parts.objects, _file_of(upload))
    else:
        is_deleted = False
        upload = _still_pending(upload, parts.store.now_ms())
        segments = _in_order(await parts.uploads.parts(upload_id), completion.part_ids)
        if bytes_of(segments) != upload.bytes:
            raise InvalidRequest(
                f"The parts have {bytes_of(segments)} bytes together, and the upload was begun "
                f"for {upload.bytes}.",
                param="part_ids",
            )
        if completion.md5 is not None:
            await _check_md5(parts.objects, segments, completion.md5)
        upload = await _completed(parts, upload, segments)
    file = _file_of(upload)
    if not is_deleted:
        await parts.files.put_file(file)
    return UploadObject.of(upload, parts.store.now_ms(), file)


@router.post("/{upload_id}/cancel", summary="Cancel an upload")
async def cancel_upload(upload_id: str, caller: ClientCaller, parts: Parts) -> UploadObject:
    """Cancel an upload and delete its parts. Idempotent."""
    upload = await _upload_of(parts, upload_id, caller)
    now_ms = parts.store.now_ms()
    if upload.status != "cancelled":
        upload = replace(_still_pending(upload, now_ms), status="cancelled")
        if not await parts.uploads.end_upload(upload):
            raise InvalidRequest("The upload has ended meanwhile.")
        with suppress(Unavailable):  # What is left is deleted by its age; nobody can read it.
            sent = await parts.uploads.parts(upload_id)
            keys = [segment.key for part in sent for segment in part.segments]
            await parts.objects.delete(keys)
    return UploadObject.of(upload, now_ms)


async def _completed(
    parts: GatewayParts, upload: Upload, segments: Sequence[FileSegment]
) -> Upload:
    """Write the manifest of an upload's file, and that it is completed. Return it as it is then."""
    now_ms = parts.store.now_ms()
    file_id = new_id("file-", now_ms)
    await write_manifest(parts.objects, upload.tenant, file_id, segments)
    completed = replace(upload, status="completed", file_id=file_id, completed_ms=now_ms)
    if await parts.uploads.end_upload(completed):
        return completed
    ended = await parts.uploads.upload(upload.tenant, upload.id)
    if ended is None or ended.status != "completed":
        raise InvalidRequest("The upload was cancelled meanwhile.")
    return ended


def _file_of(upload: Upload) -> StoredFile:
    """Return the file of a completed upload."""
    return StoredFile(
        id=upload.file_id,
        tenant=upload.tenant,
        bytes=upload.bytes,
        created_ms=upload.completed_ms,
        expires_ms=upload.completed_ms + upload.file_seconds * 1000,
        filename=upload.filename,
        purpose=upload.purpose,
    )


async def _has_content(objects: ObjectStore, file: StoredFile) -> bool:
    """Return False for a file that was deleted."""
    try:
        await read_manifest(objects, file)
    except Unavailable:
        return False
    return True


def _in_order(sent: Sequence[UploadPart], part_ids: Sequence[str]) -> list[FileSegment]:
    """Return the segments of the parts with these ids. Raises InvalidRequest."""
    by_id = {part.id: part for part in sent}
    if len(set(part_ids)) < len(part_ids) or not by_id.keys() >= set(part_ids):
        raise InvalidRequest(
            "`part_ids` must have each part once, by the ids that POST "
            "/v1/uploads/{id}/parts returned.",
            param="part_ids",
        )
    return [segment for part_id in part_ids for segment in by_id[part_id].segments]


async def _check_md5(objects: ObjectStore, segments: Sequence[FileSegment], wanted: str) -> None:
    """Compare the bytes with the client's checksum. Raises InvalidRequest."""
    checksum = hashlib.md5(usedforsecurity=False)
    async for data in read_segments(objects, segments):
        checksum.update(data)
    if checksum.hexdigest() != wanted.lower():
        raise InvalidRequest("`md5` is not that of the parts. Send them again.", param="md5")


async def _pending(parts: GatewayParts, upload_id: str, caller: Caller) -> Upload:
    """Return the caller's upload, if it is pending. Raises FileNotFound or InvalidRequest."""
    upload = await _upload_of(parts, upload_id, caller)
    return _still_pending(upload, parts.store.now_ms())


def _still_pending(upload: Upload, now_ms: int) -> Upload:
    status = UploadObject.of(upload, now_ms).status
    if status != "pending":
        raise InvalidRequest(f"The upload is {status}. Begin another one.")
    return upload


async def _upload_of(parts: GatewayParts, upload_id: str, caller: Caller) -> Upload:
    upload = await parts.uploads.upload(caller.tenant, upload_id) if is_id(upload_id) else None
    if upload is None:
        named = f": {upload_id}" if is_id(upload_id) else ""
        raise FileNotFound(f"No such Upload object{named}.", param="id")
    return upload
