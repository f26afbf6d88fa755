"""Uploads in memory."""

from __future__ import annotations

from inferline.files.upload import PARTS_MAX, Upload, UploadPart


class MemoryUploads:
    """An `UploadStore` in memory."""

    def __init__(self) -> None:
        self._uploads: dict[tuple[str, str], Upload] = {}
        self._parts: dict[str, dict[str, UploadPart]] = {}

    async def put_upload(self, upload: Upload) -> None:
        self._uploads[upload.tenant, upload.id] = upload

    async def upload(self, tenant: str, upload_id: str) -> Upload | None:
        return self._uploads.get((tenant, upload_id))

    async def add_part(self, upload: Upload, part: UploadPart, *, bytes_max: int) -> bool:
        parts = self._parts.setdefault(upload.id, {})
        is_full = len(parts) >= PARTS_MAX or sum(each.bytes for each in parts.values()) >= bytes_max
        if is_full or not self._is_pending(upload):
            return False
        parts[part.id] = part
        return True

    async def parts(self, upload_id: str) -> list[UploadPart]:
        parts = self._parts.get(upload_id, {})
        return [parts[part_id] for part_id in sorted(parts)]

    async def end_upload(self, upload: Upload) -> bool:
        if not self._is_pending(upload):
            return False
        self._uploads[upload.tenant, upload.id] = upload
        return True

    def _is_pending(self, upload: Upload) -> bool:
        row = self._uploads.get((upload.tenant, upload.id))
        return row is not None and row.status == "pending"
