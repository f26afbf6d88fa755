"""The addresses of AWS services: in any of AWS's partitions, or at an emulator."""

from __future__ import annotations

import functools
from typing import Any, cast
from urllib.parse import quote

from botocore.loaders import create_loader
from botocore.regions import EndpointResolver


class Endpoints:
    """The addresses of one region; ``endpoint_url``, if given, stands for all services."""

    def __init__(self, region: str, endpoint_url: str | None = None) -> None:
        self._region = region
        self._fixed = (endpoint_url or "").rstrip("/")
        self._services: dict[str, str] = {}

    def service(self, name: str) -> str:
        """Return the address of a service. That of SQS serves every queue."""
        if name not in self._services:
            self._services[name] = (self._fixed or f"https://{_hostname(name, self._region)}") + "/"
        return self._services[name]

    def object(self, bucket: str, key: str) -> str:
        """
        Return the address of an S3 object.

        At AWS a bucket is part of the host name, except one with a dot, which no certificate
        covers; elsewhere it is part of the path.
        """
        base, path = self.service("s3"), quote(key, safe="/-_.~")
        if self._fixed or "." in bucket:
            return f"{base}{bucket}/{path}"
        return f"https://{bucket}.{base.removeprefix('https://')}{path}"


def _hostname(service: str, region: str) -> str:
    endpoint = _resolver().construct_endpoint(service, region)
    if endpoint is None:
        return f"{service}.{region}.amazonaws.com"
    return cast("str", endpoint["hostname"])


@functools.cache
def _resolver() -> Any:
    """Load botocore's list of partitions. That takes 25 ms, so it is kept."""
    return EndpointResolver(create_loader().load_data("endpoints"))
