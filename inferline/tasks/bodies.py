"""Where a request body waits that is too large for a message."""

from __future__ import annotations

from typing import Protocol

from inferline.tasks.task import TaskRef


def body_key(ref: TaskRef) -> str:
    """
    The key of a task's body; it begins with the model so that credentials can be scoped to it.
    """
    return f"{ref.slug}/{ref.id}"


class BodyStore(Protocol):
    """Large bodies by key. Both methods raise `Unavailable` when the store does not answer."""

    async def put(self, key: str, body: bytes) -> None:
        """Keep ``body`` under ``key``; it goes by itself after some time."""

    async def get(self, key: str) -> bytes:
        """The body under ``key``."""
