"""
Signatures by AWS's fourth version, dated by a clock of our choice.

Those of S3 are botocore's. Every other call has one shape (POST, JSON, no query), for which
botocore's way through all shapes took a sixth of the gateway's CPU; a test holds the two together.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from botocore.auth import SIGV4_TIMESTAMP, S3SigV4Auth

from inferline.aws.credentials import Keys
from inferline.http.origin import place

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


@dataclass(slots=True)
class Request:
    """What is sent, under the names that botocore's signers read; lighter than its own class."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    params: None = None
    context: dict[str, Any] = field(default_factory=dict)


class _ObjectAuth(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """
    Signs for a given moment, where botocore takes the machine's.

    It also leaves out botocore's debug lines, which would put session tokens into a log.
    """

    timestamp = ""

    def add_auth(self, request: Request) -> None:
        request.context["timestamp"] = self.timestamp
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))


def sign(request: Request, service: str, region: str, keys: Keys, now_ms: int) -> None:
    """Add to ``request.headers`` what proves that it is ours."""
    timestamp = time.strftime(SIGV4_TIMESTAMP, time.gmtime(now_ms // 1000))
    if service == "s3":
        auth = _ObjectAuth(keys, service, region)
        auth.timestamp = timestamp
        auth.add_auth(request)
    else:
        _sign_call(request, service, region, keys, timestamp)


def _sign_call(request: Request, service: str, region: str, keys: Keys, timestamp: str) -> None:
    """Sign a request without a query, whose headers are plain text."""
    origin, path = place(request.url)
    headers = request.headers
    headers["X-Amz-Date"] = timestamp
    if keys.token:
        headers["X-Amz-Security-Token"] = keys.token
    named = sorted(
        [("host", origin.authority), *((name.lower(), text) for name, text in headers.items())]
    )
    names = ";".join(name for name, _ in named)
    lines = "".join(f"{name}:{text}\n" for name, text in named)
    body = hashlib.sha256(request.body).hexdigest()
    canonical = f"{request.method}\n{path}\n\n{lines}\n{names}\n{body}"
    date = timestamp[:8]
    scope = f"{date}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{digest}"
    key = _signing_key(keys.secret_key, date, region, service)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers["Authorization"] = (
        f"{_ALGORITHM} Credential={keys.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )


@lru_cache(maxsize=8)
def _signing_key(secret_key: str, date: str, region: str, service: str) -> bytes:
    """The key of one day, one region and one service."""
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
