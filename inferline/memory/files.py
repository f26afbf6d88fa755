"""Descriptions of files in memory."""

from __future__ import annotations

from inferline.clock import Clock, SystemClock
from inferline.files.file import StoredFile
from inferline.memory.dates import Dates


class MemoryFiles:
    """A `FileStore` in memory."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._dates = Dates(clock or SystemClock())
        self._files: dict[tuple[str, str], StoredFile] = {}

    async def put_file(self, file: StoredFile) -> None:
        self._files[file.tenant, file.id] = file

    async def file(self, tenant: str, file_id: str) -> StoredFile | None:
        file = self._files.get((tenant, file_id))
        return file if file is not None and file.expires_ms > self._dates.now_ms() else None

    async def files(
        self,
        tenant: str,
        *,
        after: str = "",
        limit: int,
        ascending: bool = False,
        purpose: str = "",
    ) -> list[StoredFile]:
        now_ms = self._dates.now_ms()
        files = [
            file
            for file in self._files.values()
            if file.tenant == tenant and file.expires_ms > now_ms
            if not purpose or file.purpose == purpose
            if not after or (file.id > after if ascending else file.id < after)
        ]
        return sorted(files, key=lambda file: file.id, reverse=not ascending)[:limit]

    async def delete_file(self, tenant: str, file_id: str) -> bool:
        return self._files.pop((tenant, file_id), None) is not None
