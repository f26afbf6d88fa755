"""Receives a file or a part of one: cut into segments that are stored while the rest arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from inferline.errors import BodyTooLarge, InvalidRequest, TaskCancelled, Unavailable
from inferline.files.content import SEGMENT_BYTES
from inferline.files.file import FileSegment, file_segment_key
from inferline.files.objects import ObjectStore
from inferline.gateway.edge.framework import unbounded
from inferline.gateway.files.form import FIELD_BYTES_MAX, FIELDS_MAX, FileForm
from inferline.validation.multipart import HEADER_BYTES_MAX

#: The most bytes of a form beside its file.
FORM_BYTES_MAX: Final = (FIELDS_MAX + 1) * (FIELD_BYTES_MAX + HEADER_BYTES_MAX)
#: How long a client may send nothing: it occupies one of the transfers.
SILENCE_SECONDS_MAX: Final = 60.0
#: Digits of a Content-Length that are read: Python refuses to convert some thousands.
_LENGTH_DIGITS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Bound:
    """The most bytes of a file, or a part, in one request, and the error beyond."""

    bytes_max: int
    message: str

    def refusal(self) -> BodyTooLarge:
        """Return the error for more bytes."""
        return BodyTooLarge(self.message)


def bound_of(request: Request, bytes_max: int, noun: str) -> Bound:
    """Return the bound of a ``noun``: ``bytes_max``, or less where AWS takes less of a request."""
    edge_bytes_max: int | None = getattr(request.state, "body_bytes_max", None)
    if edge_bytes_max is None or edge_bytes_max >= bytes_max:
        return Bound(bytes_max, f"A {noun} may have {bytes_max} bytes at most here. Split it.")
    return Bound(
        edge_bytes_max,
        f"One request may bring {edge_bytes_max} bytes of a file at most here. Send it in parts of "
        "3 MiB (openai-python: `client.uploads.upload_file_chunked(file=…, purpose=…, mime_type=…, "
        "part_size=3 * 1024 * 1024)`), with `inferline batches upload FILE`, or to a gateway in a "
        "container.",
    )


class SegmentWriter:
    """
    The bytes of a file, or of a part of one, on their way into segments.

    One segment is stored while the next one arrives, so two are in memory.
    """

    def __init__(self, objects: ObjectStore, tenant: str, owner_id: str, bound: Bound) -> None:
        self.bound = bound
        self.bytes = 0
        self._objects = objects
        self._owner = tenant, owner_id
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._segments: list[FileSegment] = []
        self._storing: asyncio.Task[None] | None = None

    def take(self, data: bytes) -> None:
        """Add bytes. Raises BodyTooLarge."""
        self.bytes += len(data)
        if self.bytes > self.bound.bytes_max:
            raise self.bound.refusal()
        self._pieces.append(data)
        self._waiting_bytes += len(data)

    async def store_full(self) -> None:
        """Begin to store a segment if it is full, and wait for the one before it."""
        if self._waiting_bytes >= SEGMENT_BYTES:
            await self._store()

    async def finish(self) -> tuple[FileSegment, ...]:
        """Store the rest. Return the segments, in order."""
        if self._pieces:
            await self._store()
        await self._stored()
        return tuple(self._segments)

    @asynccontextmanager
    async def whole_or_nothing(self) -> AsyncIterator[None]:
        """Delete what is stored if the block fails. What can't be is deleted by its age."""
        try:
            yield
        except BaseException:
            if self._storing is not None:
                self._storing.cancel()
                await asyncio.wait({self._storing})
            with suppress(Unavailable):
                await self._objects.delete([segment.key for segment in self._segments])
            raise

    async def _store(self) -> None:
        await self._stored()
        segment = FileSegment(
            file_segment_key(*self._owner, len(self._segments)), self._waiting_bytes
        )
        self._segments.append(segment)
        body = b"".join(self._pieces)
        self._pieces, self._waiting_bytes = [], 0
        self._storing = asyncio.create_task(self._objects.put(segment.key, body))

    async def _stored(self) -> None:
        storing, self._storing = self._storing, None
        if storing is not None:
            await storing


async def receive_form(
    request: Request, writer: SegmentWriter, *, file_field: str, text_fields: Collection[str] = ()
) -> FileForm:
    """
    Read a form, and give its file to ``writer``. Return its texts.

    Raises InvalidRequest, BodyTooLarge, EncodingNotSupported, Unavailable, and TaskCancelled if
    the client leaves before the end.
    """
    content_type = request.headers.get("content-type", "")
    form = FileForm(content_type, file_field, text_fields, writer.take)
    left = writer.bound.bytes_max + FORM_BYTES_MAX
    if _length(request) > left:
        raise writer.bound.refusal()
    async for piece in _pieces(request):
        left -= len(piece)
        if left < 0:
            raise writer.bound.refusal()
        form.write(piece)
        await writer.store_full()
    form.finish()
    return form


def _length(request: Request) -> int:
    """Return the length of the body as declared; 0 for none."""
    length = request.headers.get("content-length", "")[:_LENGTH_DIGITS_MAX]
    return int(length) if length.isascii() and length.isdigit() else 0


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield the body as it arrives."""
    body = unbounded(request).stream()
    try:
        while True:
            async with asyncio.timeout(SILENCE_SECONDS_MAX):
                piece = await anext(body)
            yield piece
    except StopAsyncIteration:
        return
    except ClientDisconnect:
        raise TaskCancelled from None
    except TimeoutError:
        raise InvalidRequest(f"Nothing came for {SILENCE_SECONDS_MAX:g} s.") from None
    except BodyTooLarge as error:  # A compressed body is read whole before it is unpacked.
        raise BodyTooLarge(f"{error} Send a large file uncompressed.") from None
