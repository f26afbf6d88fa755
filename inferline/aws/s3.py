"""Objects on S3: large request bodies, and the bytes of files and batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import translated


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
        calls = [translated(self._client.s3("DELETE", self._bucket, key)) for key in keys]
        await asyncio.gather(*calls)
