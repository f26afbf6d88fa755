"""Descriptions of files on DynamoDB: a partition of the registry table for each tenant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import ConditionFailed
from inferline.aws.api.items import from_item
from inferline.aws.dynamodb.table import Table, key_of
from inferline.files.file import StoredFile

_FIELDS: Final = tuple(field.name for field in fields(StoredFile))
#: Rows that one page of a list reads at least, because some may be left out.
_PAGE: Final = 100


class DynamoFiles:
    """`FileStore` on the registry table."""

    def __init__(self, client: AwsClient, table: str) -> None:
        self._table = Table(client, table)

    async def put_file(self, file: StoredFile) -> None:
        row = asdict(file) | {"pk": _partition(file.tenant), "sk": file.id}
        await self._table.put(row | {"ttl": file.expires_ms // 1000})

    async def file(self, tenant: str, file_id: str) -> StoredFile | None:
        item = await self._table.get(key_of(_partition(tenant), file_id))
        return self._live(from_item(item)) if item else None

    async def files(
        self,
        tenant: str,
        *,
        after: str = "",
        limit: int,
        ascending: bool = False,
        purpose: str = "",
    ) -> list[StoredFile]:
        items = self._table.query_after(
            _partition(tenant), after, ascending=ascending, page=max(limit, _PAGE)
        )
        files: list[StoredFile] = []
        async for item in items:
            file = self._live(from_item(item))
            if file is not None and (not purpose or file.purpose == purpose):
                files.append(file)
            if len(files) == limit:
                break
        return files

    async def delete_file(self, tenant: str, file_id: str) -> bool:
        key = key_of(_partition(tenant), file_id)
        try:
            await self._table.delete(key, condition="attribute_exists(pk)")
        except ConditionFailed:
            return False
        return True

    def _live(self, row: Mapping[str, Any]) -> StoredFile | None:
        """Read a row; None for a file past its time."""
        file = StoredFile(**{name: row[name] for name in _FIELDS})
        return file if file.expires_ms > self._table.now_ms() else None


def _partition(tenant: str) -> str:
    return f"FILE#{tenant}"
