"""A file's bytes as an answer, streamed segment by segment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final
from urllib.parse import quote

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from inferline.files.content import read_segments
from inferline.files.file import FileSegment, StoredFile
from inferline.files.objects import ObjectStore
from inferline.gateway.files.transfers import Transfers

#: Bytes that are given to the connection at once: it keeps a copy of what the client has not read.
_PIECE_BYTES: Final = 256 * 1024


def content_headers(file: StoredFile) -> dict[str, str]:
    """Return the headers of a file's content. A browser saves it, whatever it may be."""
    return {
        "content-type": "application/octet-stream",
        "content-length": str(file.bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
        "x-content-type-options": "nosniff",
    }


class ContentResponse(StreamingResponse):
    """An answer that has a file's bytes; one of the transfers until its end."""

    def __init__(
        self,
        objects: ObjectStore,
        file: StoredFile,
        segments: Sequence[FileSegment],
        transfers: Transfers,
    ) -> None:
        super().__init__(_pieces(objects, segments), headers=content_headers(file))
        self._transfers = transfers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer. Raises Unavailable before its beginning, if there is no room."""
        with self._transfers.admitted():
            await super().__call__(scope, receive, send)


async def _pieces(objects: ObjectStore, segments: Sequence[FileSegment]) -> AsyncIterator[bytes]:
    async for data in read_segments(objects, segments):
        for start in range(0, len(data), _PIECE_BYTES):
            # A copy: a view would keep the segment while the next one is read.
            yield data[start : start + _PIECE_BYTES]
        del data
