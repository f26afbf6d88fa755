"""A file: bytes that a tenant uploaded, or that a batch wrote, kept as a list of segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from inferline.names import slug

#: What OpenAI lets a client upload a file for, and the purpose of the files that a batch writes.
#: Source: OpenAI's specification of `POST /files`.
PURPOSES: Final = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
BATCH_OUTPUT: Final = "batch_output"


@dataclass(frozen=True, slots=True)
class FileSegment:
    """Consecutive bytes of a file: one object of the object store."""

    key: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file's description. Dates are milliseconds since 1970 by AWS's clock."""

    id: str
    tenant: str
    bytes: int
    created_ms: int
    #: It is gone from this moment on, for every reader.
    expires_ms: int
    filename: str
    purpose: str


class FileStore(Protocol):
    """
    A store of files' descriptions. Methods raise `Unavailable` when it does not answer.

    A file past ``expires_ms`` counts as gone, deleted or not.
    """

    async def put_file(self, file: StoredFile) -> None:
        """Write a file's description, when all its bytes are stored."""

    async def file(self, tenant: str, file_id: str) -> StoredFile | None:
        """Return a tenant's file; None if it has none of that id. Consistent."""

    async def files(
        self,
        tenant: str,
        *,
        after: str = "",
        limit: int,
        ascending: bool = False,
        purpose: str = "",
    ) -> list[StoredFile]:
        """
        Return up to ``limit`` files in the order of their ids, which is that of their creation.

        They begin behind the id ``after``, which need not exist any more; "" is the first.
        """

    async def delete_file(self, tenant: str, file_id: str) -> bool:
        """Delete a file's description. False if there was none."""


def manifest_key(tenant: str, file_id: str) -> str:
    """Return the object key of a file's manifest, JSON that lists its segments."""
    return f"{folder(tenant)}/{file_id}/segments.json"


def composed_key(tenant: str, file_id: str) -> str:
    """Return the object key of all of a file's bytes, where they were composed to one object."""
    return f"{folder(tenant)}/{file_id}/whole"


def file_segment_key(tenant: str, owner_id: str, number: int) -> str:
    """Return the object key of a segment, from 0, of an uploaded file or of an upload's part."""
    return f"{folder(tenant)}/{owner_id}/{number}"


def folder(tenant: str) -> str:
    """Return where a tenant's objects are. A slug: a tenant's name may hold slashes and dots."""
    return f"files/{slug(tenant)}"


def bytes_of(segments: Sequence[FileSegment]) -> int:
    """Return the length of a file made of segments."""
    return sum(segment.bytes for segment in segments)
