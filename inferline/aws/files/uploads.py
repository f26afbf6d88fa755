"""Uploads on DynamoDB: a tenant's are a partition of the registry, an upload's parts another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import ConditionFailed
from inferline.aws.api.items import from_item
from inferline.aws.dynamodb.table import Table, key_of
from inferline.files.file import FileSegment
from inferline.files.upload import PARTS_MAX, Upload, UploadPart

_FIELDS: Final = tuple(field.name for field in fields(Upload))
_TAKES_PARTS: Final = "#status = :pending AND #parts < :parts_max AND #part_bytes < :bytes_max"
#: How long the rows of an upload are kept after its time, seconds.
UPLOAD_SECONDS_KEPT: Final = 24 * 3600


class DynamoUploads:
    """`UploadStore` on the registry table."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._table = Table(client, table)

    async def put_upload(self, upload: Upload) -> None:
        await self._table.put(_row(upload) | {"parts": 0, "part_bytes": 0})

    async def upload(self, tenant: str, upload_id: str) -> Upload | None:
        item = await self._table.get(key_of(_partition(tenant), upload_id))
        return _upload(from_item(item)) if item else None

    async def add_part(self, upload: Upload, part: UploadPart, *, bytes_max: int) -> bool:
        # The count first: a part that is counted and not there can only make the upload smaller.
        try:
            await self._table.update(
                key_of(_partition(upload.tenant), upload.id),
                add={"parts": 1, "part_bytes": part.bytes},
                condition=_TAKES_PARTS,
                values={"pending": "pending", "parts_max": PARTS_MAX, "bytes_max": bytes_max},
            )
        except ConditionFailed:
            return False
        segments = [[segment.key, segment.bytes] for segment in part.segments]
        row = {"created_ms": part.created_ms, "segments": segments, "ttl": _ttl(upload)}
        await self._table.put({"pk": _parts(upload.id), "sk": part.id, **row})
        return True

    async def parts(self, upload_id: str) -> list[UploadPart]:
        rows = await self._table.rows(_parts(upload_id), consistent=True)
        return [
            UploadPart(
                id=row["sk"],
                upload_id=upload_id,
                created_ms=row["created_ms"],
                segments=tuple(FileSegment(key, size) for key, size in row["segments"]),
            )
            for row in rows
        ]

    async def end_upload(self, upload: Upload) -> bool:
        try:
            await self._table.put(
                _row(upload),
                condition="#status = :pending",
                values={"pending": "pending"},
                show_refused=True,
            )
        except ConditionFailed as refused:
            # A repeat after a lost response meets what it has written itself.
            return bool(refused.item) and _upload(from_item(refused.item)) == upload
        return True


def _row(upload: Upload) -> dict[str, Any]:
    return asdict(upload) | {"pk": _partition(upload.tenant), "sk": upload.id, "ttl": _ttl(upload)}


def _upload(row: Mapping[str, Any]) -> Upload:
    return Upload(**{name: row[name] for name in _FIELDS})


def _ttl(upload: Upload) -> int:
    return upload.expires_ms // 1000 + UPLOAD_SECONDS_KEPT


def _partition(tenant: str) -> str:
    return f"UPLOAD#{tenant}"


def _parts(upload_id: str) -> str:
    return f"PART#{upload_id}"
