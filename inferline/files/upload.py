"""An upload: a file that a client sends in parts, and the port to the store of uploads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol

from inferline.files.file import FileSegment, bytes_of

#: The most parts of one upload: each is a row.
PARTS_MAX: Final = 10_000
#: A pending upload past its time is expired; no row says so.
UploadStatus = Literal["pending", "completed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An upload's description. Dates are milliseconds since 1970 by AWS's clock."""

    id: str
    tenant: str
    #: The length of the file, as announced.
    bytes: int
    created_ms: int
    #: While pending, it is expired from this moment on.
    expires_ms: int
    filename: str
    purpose: str
    #: How long its file is kept, from its completion.
    file_seconds: int
    status: UploadStatus = "pending"
    #: The file that it became; empty unless completed.
    file_id: str = ""
    #: When it became that file; 0 unless completed.
    completed_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPart:
    """A part of an upload, whose bytes are stored."""

    id: str
    upload_id: str
    created_ms: int
    segments: tuple[FileSegment, ...]

    @property
    def bytes(self) -> int:
        """Return its length."""
        return bytes_of(self.segments)


class UploadStore(Protocol):
    """
    A store of uploads and their parts. Methods raise `Unavailable` when it does not answer.

    It forgets an upload some time after its end.
    """

    async def put_upload(self, upload: Upload) -> None:
        """Write a new upload."""

    async def upload(self, tenant: str, upload_id: str) -> Upload | None:
        """Return a tenant's upload; None if it has none of that id. Consistent."""

    async def add_part(self, upload: Upload, part: UploadPart, *, bytes_max: int) -> bool:
        """
        Add a part to an upload.

        False if the upload is no longer pending, or has ``bytes_max`` in parts already, or
        `PARTS_MAX` of them.
        """

    async def parts(self, upload_id: str) -> list[UploadPart]:
        """Return all parts of an upload, by their ids. Consistent."""

    async def end_upload(self, upload: Upload) -> bool:
        """Write an upload that ends. False if it had ended before."""
