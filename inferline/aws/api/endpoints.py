"""Where each AWS service is: at AWS itself, in any of its partitions, or at an emulator."""

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
        self._found: dict[str, str] = {}

    def service(self, name: str) -> str:
        """The address of a service's JSON protocol; for SQS it serves every queue."""
        if name not in self._found:
            self._found[name] = (self._fixed or f"https://{_hostname(name, self._region)}") + "/"
        return self._found[name]

    def object(self, bucket: str, key: str) -> str:
        """
        The address of an S3 object.

        At AWS a bucket is part of the host name, except one with a dot, which no certificate
        covers; elsewhere it is part of the path.
        """
        base, path = self.service("s3"), quote(key, safe="/-_.~")
        if self._fixed or "." in bucket:
            return f"{base}{bucket}/{path}"
        return f"https://{bucket}.{base.removeprefix('https://')}{path}"


def _hostname(service: str, region: str) -> str:
    found = _resolver().construct_endpoint(service, region)
    if found is None:
        return f"{service}.{region}.amazonaws.com"
    return cast("str", found["hostname"])


@functools.cache
def _resolver() -> Any:
    """The partitions as botocore lists them; reading the list takes 25 ms."""
    return EndpointResolver(create_loader().load_data("endpoints"))
