"""OpenAI's objects of the Files and Uploads APIs, for the code and for the OpenAPI page alike."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, computed_field

from inferline.files.file import StoredFile
from inferline.files.upload import Upload, UploadPart


class FileObject(BaseModel):
    """A file. Dates are seconds since 1970."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    #: A file can be used as soon as it is there.
    status: Literal["processed"] = "processed"
    status_details: None = None

    @classmethod
    def of(cls, file: StoredFile) -> Self:
        """Return the object of a file."""
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=file.created_ms // 1000,
            expires_at=file.expires_ms // 1000,
            filename=file.filename,
            purpose=file.purpose,
        )


class FileList(BaseModel):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    has_more: bool

    @computed_field
    def first_id(self) -> str | None:
        """Return the first one's id."""
        return self.data[0].id if self.data else None

    @computed_field
    def last_id(self) -> str | None:
        """Return the last one's id, behind which the next page begins."""
        return self.data[-1].id if self.data else None


class DeletedFile(BaseModel):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class UploadObject(BaseModel):
    """An upload. Dates are seconds since 1970."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    #: The file that it became.
    file: FileObject | None = None

    @classmethod
    def of(cls, upload: Upload, now_ms: int, file: StoredFile | None = None) -> Self:
        """Return the object of an upload, with its file if it has become one."""
        is_expired = upload.status == "pending" and upload.expires_ms <= now_ms
        return cls(
            id=upload.id,
            bytes=upload.bytes,
            created_at=upload.created_ms // 1000,
            expires_at=upload.expires_ms // 1000,
            filename=upload.filename,
            purpose=upload.purpose,
            status="expired" if is_expired else upload.status,
            file=None if file is None else FileObject.of(file),
        )


class PartObject(BaseModel):
    """A part of an upload."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str

    @classmethod
    def of(cls, part: UploadPart) -> Self:
        """Return the object of a part."""
        return cls(id=part.id, created_at=part.created_ms // 1000, upload_id=part.upload_id)
