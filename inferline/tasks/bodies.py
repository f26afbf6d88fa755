"""The port to the store of request bodies that are too large for a message."""

from __future__ import annotations

from typing import Protocol

from inferline.tasks.task import TaskRef


def body_key(ref: TaskRef) -> str:
    """Return the key of a task's body. It begins with the model, to which rights are limited."""
    return f"{ref.slug}/{ref.id}"


class BodyStore(Protocol):
    """A store of large bodies. Both methods raise `Unavailable` when it does not answer."""

    async def put(self, key: str, body: bytes) -> None:
        """Store ``body`` under ``key``. It is deleted by itself after some days."""

    async def get(self, key: str) -> bytes:
        """Return the body under ``key``."""
