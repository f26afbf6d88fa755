"""Conversion of AWS's error responses, and of failed connections, to botocore's exceptions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)

from inferline.http.errors import (
    CannotConnect,
    ConnectTimeout,
    HttpError,
    HungUp,
    ProxyFailed,
    Silence,
    Untrusted,
)


@dataclass(frozen=True, slots=True)
class AwsResponse:
    """An HTTP response as received."""

    status: int
    #: By name in lower case.
    headers: Mapping[str, str]
    body: bytes


def client_error(answer: AwsResponse, operation: str, retries: int) -> ClientError:
    """
    Return the error of a response with status 300 or above.

    ``response["Error"]["Code"]`` is the bare name, such as ``ConditionalCheckFailedException``.
    Other fields of the body, such as ``Item`` and ``CancellationReasons``, stay beside ``Error``.
    """
    details = _json_error(answer.body) or _xml_error(answer.body)
    code = details.pop("__type", None) or answer.headers.get("x-amzn-errortype")
    code = code or details.pop("code", None) or str(answer.status)
    messages = details.pop("message", None), details.pop("Message", None)
    response = {
        **details,
        "Error": {
            # Written as `com.amazon.coral.service#Name`, or as `Name:http://...` in the header.
            "Code": str(code).partition(":")[0].rpartition("#")[2],
            "Message": messages[0] or messages[1] or "",
        },
        "ResponseMetadata": {
            "HTTPStatusCode": answer.status,
            "HTTPHeaders": dict(answer.headers),
            "RequestId": answer.headers.get("x-amzn-requestid")
            or answer.headers.get("x-amz-request-id", ""),
            "RetryAttempts": retries,
        },
    }
    return ClientError(response, operation)


def transport_error(error: HttpError, url: str) -> BotoCoreError:
    """Return botocore's exception for a call that got no response."""
    match error:
        case ConnectTimeout():
            return ConnectTimeoutError(endpoint_url=url, error=error)
        case Silence():
            return ReadTimeoutError(endpoint_url=url, error=error)
        case Untrusted():
            return SSLError(endpoint_url=url, error=error)
        case ProxyFailed():
            return ProxyConnectionError(proxy_url=str(error), error=error)
        case CannotConnect():
            return EndpointConnectionError(endpoint_url=url, error=error)
        case HungUp():
            return ConnectionClosedError(endpoint_url=url, error=error)
        case _:
            return HTTPClientError(error=error)


def _json_error(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def xml_texts(body: bytes) -> dict[str, str]:
    """Return the texts of an XML document's leaves by their names; empty for anything else."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314  # no parser here loads external entities
    except ElementTree.ParseError:
        return {}
    return {
        element.tag.rpartition("}")[2]: element.text or ""
        for element in root.iter()
        if not len(element)
    }


def _xml_error(body: bytes) -> dict[str, Any]:
    """Read S3's `<Error><Code>..</Code><Message>..</Message>..</Error>`; STS nests it deeper."""
    texts: dict[str, Any] = {**xml_texts(body)}
    return {"__type": texts.pop("Code", None), **texts}
