"""The bytes of files: written as segments with a manifest, and read one segment after the other."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

from inferline.errors import Unavailable
from inferline.files.file import FileSegment, StoredFile, composed_key, manifest_key
from inferline.files.objects import ObjectStore

#: A file that is uploaded, or lines that a batch writes at its end, are cut into segments of about
#: this length.
SEGMENT_BYTES: Final = 4 * 1024 * 1024
#: The bytes that are read ahead together; a longer segment is read alone.
_AHEAD_BYTES: Final = SEGMENT_BYTES
#: The segments that are read ahead together: those of a batch's results are short.
_AHEAD_SEGMENTS: Final = 16


async def write_manifest(
    objects: ObjectStore, tenant: str, file_id: str, segments: Sequence[FileSegment]
) -> None:
    """Store the list of a file's segments, in order."""
    await _write(objects, tenant, file_id, segments)


async def read_manifest(objects: ObjectStore, file: StoredFile) -> list[FileSegment]:
    """Return the list of a file's segments, in order. Raises Unavailable."""
    return (await _read(objects, file))[0]


async def whole_object(objects: ObjectStore, file: StoredFile) -> str:
    """
    Return the key of one object that has all of a file's bytes. Raises Unavailable.

    A file that is not one segment is composed, once. Its segments stay: somebody may read them.
    """
    segments, whole = await _read(objects, file)
    if whole or len(segments) == 1:
        return whole or segments[0].key
    whole = composed_key(file.tenant, file.id)
    await objects.compose(whole, _pieces(objects, segments))
    await _write(objects, file.tenant, file.id, segments, whole)
    return whole


async def _pieces(objects: ObjectStore, segments: Sequence[FileSegment]) -> AsyncIterator[bytes]:
    """Yield the bytes of segments in pieces that have the length of a segment, but the last."""
    waiting: list[bytes] = []
    async for data in read_segments(objects, segments):
        waiting.append(data)
        if sum(map(len, waiting)) >= SEGMENT_BYTES:
            yield b"".join(waiting)
            waiting = []
    if waiting or not segments:
        yield b"".join(waiting)


async def read_file(objects: ObjectStore, file: StoredFile) -> AsyncIterator[bytes]:
    """Yield a file's bytes, a segment at a time. Raises Unavailable if one is not as listed."""
    async for data in read_segments(objects, await read_manifest(objects, file)):
        yield data


async def read_segments(
    objects: ObjectStore, segments: Sequence[FileSegment]
) -> AsyncIterator[bytes]:
    """Yield the bytes of segments, in order. Raises Unavailable if one is not as listed."""
    rest = deque(segments)
    reads: deque[tuple[FileSegment, asyncio.Task[bytes]]] = deque()
    ahead_bytes = 0
    try:
        while rest or reads:
            while rest and _may_read(reads, ahead_bytes + rest[0].bytes):
                segment = rest.popleft()
                ahead_bytes += segment.bytes
                reads.append((segment, asyncio.create_task(objects.get(segment.key))))
            segment, read = reads.popleft()
            data = await read
            # Nothing may keep it while the next ones are read.
            del read
            if len(data) != segment.bytes:
                raise Unavailable("A part of the file is not what was stored.")
            yield data
            del data
            ahead_bytes -= segment.bytes
    finally:
        for _, read in reads:
            read.cancel()


async def delete_content(objects: ObjectStore, file: StoredFile) -> None:
    """Delete a file's segments and its manifest. Raises Unavailable."""
    segments, whole = await _read(objects, file)
    await objects.delete([*(segment.key for segment in segments), *filter(None, [whole])])
    await objects.delete([manifest_key(file.tenant, file.id)])


async def _write(
    objects: ObjectStore,
    tenant: str,
    file_id: str,
    segments: Sequence[FileSegment],
    whole: str = "",
) -> None:
    listed = [[segment.key, segment.bytes] for segment in segments]
    manifest = {"segments": listed, "whole": whole}
    await objects.put(manifest_key(tenant, file_id), json.dumps(manifest).encode())


async def _read(objects: ObjectStore, file: StoredFile) -> tuple[list[FileSegment], str]:
    """Return a file's segments, and the object that is composed of them; "" for none."""
    manifest = json.loads(await objects.get(manifest_key(file.tenant, file.id)))
    return [FileSegment(key, size) for key, size in manifest["segments"]], manifest["whole"]


def _may_read(reads: deque[tuple[FileSegment, asyncio.Task[bytes]]], ahead_bytes: int) -> bool:
    return not reads or (ahead_bytes <= _AHEAD_BYTES and len(reads) < _AHEAD_SEGMENTS)
