"""What API Gateway says no with, in the words that InferLine's own errors have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from aws_cdk import aws_apigateway as apigateway

from inferline.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    InferLineError,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    QueueFull,
    Unavailable,
)
from inferline.gateway.edge import cors

_kind = apigateway.ResponseType

_TOO_MANY: Final = QueueFull(
    "There are too many requests at the moment. Try again later.", code="rate_limit_exceeded"
)
_NO_QUOTA: Final = QueueFull(
    "The key's quota is used up. Ask the operator for more.", code="insufficient_quota"
)
#: What Lambda takes, less what API Gateway adds; a form comes in base64.
_TOO_LARGE: Final = BodyTooLarge(
    "The request body is too large: AWS takes 6 MB at the most, of a form 4.5 MB. Send a file in "
    "parts of at most 4 MB (POST /v1/uploads; uploads.upload_file_chunked of an SDK), with "
    "`inferline batches upload`, or to a gateway in a container. Send less of anything else."
)
_FIREWALL: Final = NotPermitted("The firewall does not let this request pass.")

#: By API Gateway's name for the case. Where no status follows it is API Gateway's own: that of a
#: whole class must not change with the body.
REFUSALS: Final[Mapping[str, tuple[apigateway.ResponseType, InferLineError, bool]]] = {
    "DEFAULT_4XX": (_kind.DEFAULT_4_XX, InvalidRequest(), False),
    "DEFAULT_5XX": (_kind.DEFAULT_5_XX, InferLineError(), False),
    "UNAUTHORIZED": (_kind.UNAUTHORIZED, NotAuthenticated(), True),
    "ACCESS_DENIED": (_kind.ACCESS_DENIED, NotPermitted(), True),
    # Its name for an address or a method that there is not.
    "MISSING_AUTHENTICATION_TOKEN": (_kind.MISSING_AUTHENTICATION_TOKEN, NotFound(), True),
    "RESOURCE_NOT_FOUND": (_kind.RESOURCE_NOT_FOUND, NotFound(), True),
    "THROTTLED": (_kind.THROTTLED, _TOO_MANY, True),
    "QUOTA_EXCEEDED": (_kind.QUOTA_EXCEEDED, _NO_QUOTA, True),
    "REQUEST_TOO_LARGE": (_kind.REQUEST_TOO_LARGE, _TOO_LARGE, True),
    "BAD_REQUEST_BODY": (_kind.BAD_REQUEST_BODY, InvalidRequest(), True),
    "INTEGRATION_TIMEOUT": (_kind.INTEGRATION_TIMEOUT, DeadlineExceeded(), True),
    "INTEGRATION_FAILURE": (_kind.INTEGRATION_FAILURE, Unavailable(), True),
    "WAF_FILTERED": (_kind.WAF_FILTERED, _FIREWALL, True),
}


def gateway_responses(api: apigateway.RestApi, origins: Sequence[str] = ()) -> None:
    """Give ``api`` the body of each refusal, which pages of ``origins`` may read."""
    for name, (kind, error, own_status) in REFUSALS.items():
        api.add_gateway_response(
            name,
            type=kind,
            status_code=str(error.status) if own_status else None,
            response_headers=_headers(error) | _readable(origins),
            # Anthropic's SDKs want to see that it is one.
            templates={"application/json": json.dumps({"type": "error", **error.body()})},
        )


def _headers(error: InferLineError) -> dict[str, str]:
    """
    Return headers as API Gateway writes them: text in quotes, its own variables without.
    """
    headers = error.headers()
    if error.status >= 500:
        # A task may be under way already; a second one would cost as much again.
        headers["x-should-retry"] = "false"
    return {
        "x-request-id": "context.requestId",
        "request-id": "context.requestId",
        **{name: f"'{value}'" for name, value in headers.items()},
    }


def _readable(origins: Sequence[str]) -> dict[str, str]:
    """
    Return what lets a page read a refusal. Of several origins that which asks: it tells nothing.
    """
    if not origins:
        return {}
    several = len(origins) > 1 and "*" not in origins
    allowed = "method.request.header.Origin" if several else f"'{origins[0]}'"
    return {
        "access-control-allow-origin": "'*'" if "*" in origins else allowed,
        "access-control-expose-headers": f"'{', '.join(cors.EXPOSED)}'",
    }
