"""The bytes of files: written as segments with a manifest, and read one segment after the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

from inferline.errors import Unavailable
from inferline.files.file import FileSegment, StoredFile, manifest_key
from inferline.files.objects import ObjectStore


async def write_manifest(
    objects: ObjectStore, tenant: str, file_id: str, segments: Sequence[FileSegment]
) -> None:
    """Store the list of a file's segments, in order."""
    manifest = [[segment.key, segment.bytes] for segment in segments]
    await objects.put(manifest_key(tenant, file_id), json.dumps(manifest).encode())


async def read_manifest(objects: ObjectStore, file: StoredFile) -> list[FileSegment]:
    """Return the list of a file's segments, in order. Raises Unavailable."""
    manifest = json.loads(await objects.get(manifest_key(file.tenant, file.id)))
    return [FileSegment(key, size) for key, size in manifest]


async def read_file(objects: ObjectStore, file: StoredFile) -> AsyncIterator[bytes]:
    """Yield a file's bytes, a segment at a time. Raises Unavailable if one is not as listed."""
    for segment in await read_manifest(objects, file):
        data = await objects.get(segment.key)
        if len(data) != segment.bytes:
            raise Unavailable("A part of the file is not what was stored.")
        yield data
