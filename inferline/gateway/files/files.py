"""OpenAI's Files API: upload, list, read and delete the files of a tenant."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import RedirectResponse

from inferline.accounts.caller import Caller
from inferline.errors import FileNotFound, NotFound, Unavailable
from inferline.files.content import delete_content, read_manifest, whole_object, write_manifest
from inferline.files.file import PURPOSES, StoredFile, bytes_of
from inferline.files.ids import FILE_ID, is_id, new_id
from inferline.gateway.errors import ERRORS
from inferline.gateway.files.content import ContentResponse, content_headers
from inferline.gateway.files.descriptions import (
    FORM_FIELDS,
    checked_filename,
    checked_purpose,
    form_seconds,
)
from inferline.gateway.files.objects import DeletedFile, FileList, FileObject
from inferline.gateway.files.receiving import SegmentWriter, bound_of, receive_form
from inferline.gateway.parts import GatewayParts
from inferline.gateway.routes.access import ClientCaller
from inferline.gateway.routes.dependencies import Parts
from inferline.settings import FILE_SECONDS_MAX, FILE_SECONDS_MIN

#: How long the address holds that a content is redirected to: until a client follows.
PRESIGNED_SECONDS: Final = 60
#: The most files on one page of a list.
LIST_MAX: Final = 10_000


async def _openai_only(request: Request) -> None:
    """Raise NotFound for Anthropic's SDKs: their Files API has this address and other objects."""
    if "anthropic-version" in request.headers:
        raise NotFound("Anthropic's Files API is not served here; OpenAI's is, to its clients.")


router = APIRouter(
    prefix="/files", tags=["files"], responses=ERRORS, dependencies=[Depends(_openai_only)]
)

_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "dependentRequired": {
                        "expires_after[anchor]": ["expires_after[seconds]"],
                        "expires_after[seconds]": ["expires_after[anchor]"],
                    },
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(PURPOSES)},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": FILE_SECONDS_MIN,
                            "maximum": FILE_SECONDS_MAX,
                        },
                    },
                }
            }
        },
    }
}
_CONTENT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The file's bytes.", "content": {"application/octet-stream": {}}},
    307: {"description": "The file's bytes are at another address."},
}


@router.post("", summary="Upload a file", openapi_extra=_FORM)
async def create_file(request: Request, caller: ClientCaller, parts: Parts) -> FileObject:
    """
    Store a file, which may be used at once.

    Its parts may come in any order. It is kept for `INFERLINE_FILE_SECONDS_KEPT`, 30 days, or
    less with `expires_after`.
    """
    now_ms, settings = parts.store.now_ms(), parts.settings
    file_id = new_id("file-", now_ms)
    bound = bound_of(request, settings.file_bytes_max, "file")
    writer = SegmentWriter(parts.objects, caller.tenant, file_id, bound)
    with request.app.transfers.admitted():
        async with writer.whole_or_nothing():
            form = await receive_form(request, writer, file_field="file", text_fields=FORM_FIELDS)
            purpose = checked_purpose(form.fields.get("purpose"))
            filename = checked_filename(form.filename)
            seconds = form_seconds(form.fields, settings)
            segments = await writer.finish()
            await write_manifest(parts.objects, caller.tenant, file_id, segments)
    file = StoredFile(
        id=file_id,
        tenant=caller.tenant,
        bytes=bytes_of(segments),
        created_ms=now_ms,
        expires_ms=now_ms + seconds * 1000,
        filename=filename,
        purpose=purpose,
    )
    await parts.files.put_file(file)
    return FileObject.of(file)


@router.get("", summary="List the files")
async def list_files(
    caller: ClientCaller,
    parts: Parts,
    after: Annotated[str, Query(pattern=f"^({FILE_ID})?$")] = "",
    limit: Annotated[int, Query(ge=1, le=LIST_MAX)] = LIST_MAX,
    order: Literal["asc", "desc"] = "desc",
    purpose: str = "",
) -> FileList:
    """List the tenant's files by their creation, the newest first, from behind the id `after`."""
    files = await parts.files.files(
        caller.tenant,
        after=after,
        limit=limit + 1,
        ascending=order == "asc",
        purpose=purpose,
    )
    return FileList(
        data=[FileObject.of(file) for file in files[:limit]], has_more=len(files) > limit
    )


@router.get("/{file_id}", summary="Get a file")
async def get_file(file_id: str, caller: ClientCaller, parts: Parts) -> FileObject:
    """Return a file's description."""
    return FileObject.of(await file_of(parts, file_id, caller))


@router.get(
    "/{file_id}/content",
    summary="Get the content of a file",
    response_class=Response,
    response_model=None,
    responses=_CONTENT,
)
async def get_content(
    request: Request, file_id: str, caller: ClientCaller, parts: Parts
) -> Response:
    """
    Return a file's bytes, or 307 to where they are, where an answer can't carry them.

    At that address they can be read for a minute, without a key.
    """
    file = await file_of(parts, file_id, caller)
    if getattr(request.state, "is_head", False):
        return Response(headers=content_headers(file))
    if getattr(request.state, "redirects_files", False):
        key = await whole_object(parts.objects, file)
        url = await parts.objects.presigned_url(
            key, filename=file.filename, seconds=PRESIGNED_SECONDS
        )
        if url is not None:
            return RedirectResponse(url, headers={"cache-control": "no-store"})
    segments = await read_manifest(parts.objects, file)
    return ContentResponse(parts.objects, file, segments, request.app.transfers)


@router.delete("/{file_id}", summary="Delete a file")
async def delete_file(file_id: str, caller: ClientCaller, parts: Parts) -> DeletedFile:
    """Delete a file and its bytes."""
    file = await file_of(parts, file_id, caller)
    if not await parts.files.delete_file(caller.tenant, file_id):
        raise _no_file(file_id)
    with suppress(Unavailable):  # What is left is deleted by its age; nobody can read it.
        await delete_content(parts.objects, file)
    return DeletedFile(id=file_id)


async def file_of(parts: GatewayParts, file_id: str, caller: Caller) -> StoredFile:
    """Return the caller's file of that id. Raises FileNotFound, also for another tenant's."""
    file = await parts.files.file(caller.tenant, file_id) if is_id(file_id) else None
    if file is None:
        raise _no_file(file_id)
    return file


def _no_file(file_id: str) -> FileNotFound:
    named = f": {file_id}" if is_id(file_id) else ""
    return FileNotFound(f"No such File object{named}. GET /v1/files lists the files.", param="id")
