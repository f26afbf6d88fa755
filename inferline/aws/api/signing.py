"""
Signatures of version 4, dated by a clock of our choice.

Calls of S3 are signed by botocore. Every other call has one shape (POST, JSON, no query), for which
botocore's general code took a sixth of the gateway's CPU; a test compares both.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Protocol

from botocore.auth import SIGV4_TIMESTAMP, S3SigV4Auth, S3SigV4QueryAuth

from inferline.aws.api.credentials import Keys
from inferline.http.origin import place

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_HOST: Final = "Host"


class Call(Protocol):
    """A call to sign."""

    @property
    def service(self) -> str:
        """Return the service's name in a signature."""

    @property
    def method(self) -> str:
        """Return the HTTP method."""

    @property
    def url(self) -> str:
        """Return the address."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers that the signature covers, besides those that it adds."""

    @property
    def body(self) -> bytes:
        """Return the body."""


def signed(call: Call, region: str, keys: Keys, now_ms: int) -> dict[str, str]:
    """Return the call's headers, with the signature."""
    timestamp = _timestamp(now_ms // 1000)
    if call.service == "s3":
        request = _ObjectRequest(call.method, call.url, dict(call.headers), call.body)
        auth = _ObjectAuth(keys, call.service, region)
        auth.timestamp = timestamp
        auth.add_auth(request)
        return request.headers
    return _signed(call, region, keys, timestamp)


def presigned(url: str, region: str, keys: Keys, now_ms: int, seconds: int) -> str:
    """Return the address of an object of S3 with a signature that holds for some seconds."""
    request = _ObjectRequest("GET", url, {}, b"")
    auth = _UrlAuth(keys, "s3", region, seconds)
    auth.timestamp = _timestamp(now_ms // 1000)
    auth.add_auth(request)
    return request.url


def _signed(call: Call, region: str, keys: Keys, timestamp: str) -> dict[str, str]:
    """Sign a call without a query, whose headers are plain text."""
    origin, path = place(call.url)
    headers = {**call.headers, "X-Amz-Date": timestamp}
    if keys.token:
        headers["X-Amz-Security-Token"] = keys.token
    order, names = _order(tuple(headers))
    texts = {**headers, _HOST: origin.authority}
    lines = "".join([f"{low}:{texts[name]}\n" for low, name in order])
    body = hashlib.sha256(call.body).hexdigest()
    canonical = f"{call.method}\n{path}\n\n{lines}\n{names}\n{body}"
    date = timestamp[:8]
    scope = f"{date}/{region}/{call.service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{digest}"
    mac = _mac(keys.secret_key, date, region, call.service).copy()
    mac.update(text.encode())
    headers["Authorization"] = (
        f"{_ALGORITHM} Credential={keys.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={mac.hexdigest()}"
    )
    return headers


@lru_cache(maxsize=8)
def _timestamp(seconds: int) -> str:
    """Format seconds since 1970 as signatures do."""
    return time.strftime(SIGV4_TIMESTAMP, time.gmtime(seconds))


@lru_cache(maxsize=32)
def _order(names: tuple[str, ...]) -> tuple[tuple[tuple[str, str], ...], str]:
    """Return the headers and Host in a signature's order: both spellings of each, and a text."""
    order = sorted((name.lower(), name) for name in (*names, _HOST))
    return tuple(order), ";".join(low for low, _ in order)


@lru_cache(maxsize=8)
def _mac(secret_key: str, date: str, region: str, service: str) -> hmac.HMAC:
    """Begin a message authentication code with the key of one day, one region and one service."""
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")


@dataclass(slots=True)
class _ObjectRequest:
    """A request with the attributes that botocore's signers read; lighter than its own class."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    params: Any = None
    #: A form that would become a part of the query.
    data: str = ""
    context: dict[str, Any] = field(default_factory=dict)


class _Dated:
    """
    A signer for a given moment, where botocore takes the machine's.

    It also leaves out botocore's debug lines, which would put session tokens into a log.
    """

    timestamp = ""

    def add_auth(self: Any, request: _ObjectRequest) -> None:
        """Sign a request."""
        request.context["timestamp"] = self.timestamp
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))


class _ObjectAuth(_Dated, S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """Signatures in the headers."""


class _UrlAuth(_Dated, S3SigV4QueryAuth):  # type: ignore[misc]
    """Signatures in the address."""
