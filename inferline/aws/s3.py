"""Large request bodies on S3."""

from __future__ import annotations

from inferline.aws.api.client import AwsClient
from inferline.aws.api.errors import translated


class S3Bodies:
    """`BodyStore` on one bucket, whose lifecycle deletes objects after some days."""

    def __init__(self, client: AwsClient, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def put(self, key: str, body: bytes) -> None:
        await translated(self._client.s3("PUT", self._bucket, key, body))

    async def get(self, key: str) -> bytes:
        return await translated(self._client.s3("GET", self._bucket, key))
