"""Signatures by botocore, dated by a clock of our choice."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from botocore.auth import SIGV4_TIMESTAMP, S3SigV4Auth, SigV4Auth

from inferline.aws.credentials import Keys


@dataclass(slots=True)
class Request:
    """What is sent, under the names that botocore's signers read; lighter than its own class."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    params: None = None
    context: dict[str, Any] = field(default_factory=dict)


class _Dated:
    """
    Signs for a given moment, where botocore takes the machine's.

    It also leaves out botocore's debug lines, which would put session tokens into a log.
    """

    timestamp = ""

    def add_auth(self: Any, request: Request) -> None:
        request.context["timestamp"] = self.timestamp
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))


class _Auth(_Dated, SigV4Auth):  # type: ignore[misc]  # botocore has no types
    pass


class _S3Auth(_Dated, S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    pass


def sign(request: Request, service: str, region: str, keys: Keys, now_ms: int) -> None:
    """Add to ``request.headers`` what proves that it is ours. Raises NoCredentialsError."""
    auth = (_S3Auth if service == "s3" else _Auth)(keys, service, region)
    auth.timestamp = time.strftime(SIGV4_TIMESTAMP, time.gmtime(now_ms // 1000))
    auth.add_auth(request)
