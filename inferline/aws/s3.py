"""Objects on S3: large request bodies, and the bytes of files and batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Final
from urllib.parse import quote

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import translated
from inferline.aws.api.responses import xml_texts
from inferline.errors import Unavailable

#: Objects that are deleted at the same time.
_DELETES_MAX: Final = 32


class S3Objects:
    """`BodyStore` and `ObjectStore` on one bucket, whose lifecycle deletes objects by their age."""

    def __init__(self, client: AwsClient, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def put(self, key: str, body: bytes) -> None:
        await translated(self._client.s3("PUT", self._bucket, key, body))

    async def get(self, key: str) -> bytes:
        return await translated(self._client.s3("GET", self._bucket, key))

    async def delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _DELETES_MAX):
            some = keys[start : start + _DELETES_MAX]
            calls = [translated(self._client.s3("DELETE", self._bucket, key)) for key in some]
            await asyncio.gather(*calls)

    async def compose(self, key: str, pieces: AsyncIterable[bytes]) -> None:
        # A multipart upload that is broken off is deleted by the bucket's lifecycle.
        upload_id = (await self._post(key, {"uploads": ""}))["UploadId"]
        tags: list[str] = []
        async for piece in pieces:
            query = {"partNumber": str(len(tags) + 1), "uploadId": upload_id}
            call = self._client.s3_multipart("PUT", self._bucket, key, query, piece)
            tags.append((await translated(call)).headers["etag"])
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
            for number, tag in enumerate(tags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        # An error may come in an answer that begins as a success.
        if "Code" in await self._post(key, {"uploadId": upload_id}, body):
            raise Unavailable

    async def presigned_url(self, key: str, *, filename: str, seconds: int) -> str | None:
        disposition = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        query = {"response-content-disposition": disposition}
        return await translated(self._client.presigned_url(self._bucket, key, query, seconds))

    async def _post(self, key: str, query: Mapping[str, str], body: bytes = b"") -> dict[str, str]:
        """Begin or end a multipart upload. Return the texts of the answer."""
        call = self._client.s3_multipart("POST", self._bucket, key, query, body)
        return xml_texts((await translated(call)).body)
