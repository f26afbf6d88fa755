"""Large request bodies in memory."""

from __future__ import annotations

from inferline.errors import Unavailable


class MemoryBodies:
    """A `BodyStore` in memory."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}

    async def put(self, key: str, body: bytes) -> None:
        self._bodies[key] = body

    async def get(self, key: str) -> bytes:
        if key not in self._bodies:
            raise Unavailable("There is no such body.")
        return self._bodies[key]
