"""The port to the object store, which holds the bytes of files and of batches' shards."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from typing import Protocol


class ObjectStore(Protocol):
    """
    A store of objects by key. Methods raise `Unavailable` when it does not answer.

    Objects are deleted by themselves some days after no file can need them any more.
    """

    async def put(self, key: str, body: bytes) -> None:
        """Store an object, in place of an earlier one under its key."""

    async def get(self, key: str) -> bytes:
        """Return an object. Raises Unavailable if there is none."""

    async def compose(self, key: str, pieces: AsyncIterable[bytes]) -> None:
        """Store an object of pieces, all of which have 5 MiB or more but the last."""

    async def presigned_url(self, key: str, *, filename: str, seconds: int) -> str | None:
        """
        Return an address at which anybody can get an object for some seconds, as ``filename``.

        None where objects have no addresses.
        """

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects. One that does not exist is ignored."""
