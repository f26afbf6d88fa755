"""Objects in memory."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence

from inferline.errors import Unavailable


class MemoryObjects:
    """A `BodyStore` and an `ObjectStore` in memory."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    async def put(self, key: str, body: bytes) -> None:
        self._objects[key] = body

    async def get(self, key: str) -> bytes:
        if key not in self._objects:
            raise Unavailable("There is no such object.")
        return self._objects[key]

    async def compose(self, key: str, pieces: AsyncIterable[bytes]) -> None:
        self._objects[key] = b"".join([piece async for piece in pieces])

    async def presigned_url(self, key: str, *, filename: str, seconds: int) -> str | None:
        return None

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._objects.pop(key, None)
