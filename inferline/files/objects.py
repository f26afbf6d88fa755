"""The port to the object store, which holds the bytes of files and of batches' shards."""

from __future__ import annotations

from collections.abc import Sequence
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

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects. One that does not exist is ignored."""
