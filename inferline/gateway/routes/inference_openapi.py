"""The inference endpoints in the OpenAPI document, which FastAPI writes of its own routes alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from inferline.gateway.routes.endpoints import ENDPOINTS, Endpoint
from inferline.validation import payload
from inferline.validation.output_rules import may_be_media

_DESCRIPTION: Final = (
    "The body goes to the model's backend as it is, and the backend's status, content type and "
    "bytes come back as they are. With `stream: true` the answer is `text/event-stream`."
)
_MODEL: Final[dict[str, Any]] = {"type": "string", "minLength": 1, "maxLength": 256}
_HEADERS: Final = (
    ("x-request-id", "The task's id."),
    ("x-inferline-provider", "The provider that ran it."),
    ("x-inferline-attempt", "The number of the attempt that answered, from 1."),
    ("x-inferline-queue-ms", "How long it waited for a provider, milliseconds."),
    ("x-ratelimit-limit-requests", "The limit of its key or tenant, whichever is nearer."),
    ("x-ratelimit-remaining-requests", "How many more requests may be made."),
    ("x-ratelimit-reset-requests", "When all requests may be made again, such as `6m0s`."),
    ("x-ratelimit-limit-tokens", "The same for tokens, if there is a limit."),
    ("x-ratelimit-remaining-tokens", "How many more tokens may be used."),
    ("x-ratelimit-reset-tokens", "When all tokens may be used again."),
)
_LINKS: Final = (("task", "/get"), ("stream", "~1stream/get"), ("cancel", "~1cancel/post"))
_ANSWER: Final[dict[str, Any]] = {
    "description": "The backend's answer, as it is.",
    "content": {"application/json": {"schema": {}}, "text/event-stream": {}},
    "links": {
        name: {
            "operationRef": f"#/paths/~1v1~1tasks~1{{task_id}}{path}",
            "parameters": {"task_id": "$response.header.x-request-id"},
        }
        for name, path in _LINKS
    },
    "headers": {
        name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS
    },
}
_ERROR: Final[dict[str, Any]] = {
    "description": "An error; the message says what to do.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
}
#: Other content types of the answers of some endpoints.
_MEDIA: Final[dict[str, Any]] = {"text/plain": {}, "application/octet-stream": {}}


def paths(prefix: str, schemes: Iterable[str]) -> dict[str, Any]:
    """Return the endpoints' path items below ``prefix``, open to keys of these ``schemes``."""
    security: list[dict[str, list[str]]] = [{scheme: []} for scheme in schemes]
    return {
        f"{prefix}{endpoint.path}": {
            endpoint.method.lower(): dict(_operation(endpoint, prefix, security))
        }
        for endpoint in ENDPOINTS
    }


def _operation(
    endpoint: Endpoint, prefix: str, security: list[dict[str, Any]]
) -> Iterator[tuple[str, Any]]:
    """Yield the fields of an endpoint's operation object."""
    name = f"{endpoint.path.strip('/')}{prefix}{endpoint.path}_{endpoint.method.lower()}"
    yield "tags", ["inference"]
    yield "summary", endpoint.summary
    yield "description", _DESCRIPTION
    yield "operationId", re.sub(r"\W", "_", name)
    if security:
        yield "security", security
    yield "responses", {"200": _answer(endpoint), "default": _ERROR}
    if not endpoint.needs_model:
        yield "parameters", [{"name": "model", "in": "query", "required": False, "schema": _MODEL}]
    if endpoint.method == "POST":
        yield "requestBody", {"required": True, "content": _content(endpoint)}


def _answer(endpoint: Endpoint) -> dict[str, Any]:
    if not may_be_media(endpoint.backend_path):
        return _ANSWER
    return {**_ANSWER, "content": {**_ANSWER["content"], **_MEDIA}}


def _content(endpoint: Endpoint) -> dict[str, Any]:
    """Return the content types of an endpoint's request body."""
    model = _MODEL if endpoint.needs_model else {**_MODEL, "type": ["string", "null"]}
    schema = {
        "type": "object",
        "required": ["model"] if endpoint.needs_model else [],
        "additionalProperties": True,
        "properties": {
            "model": model,
            "stream": {"type": ["boolean", "null"]},
            "service_tier": {"enum": [*payload.SERVICE_TIERS, None]},
        },
        "example": {"model": "a-model", **endpoint.example},
    }
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if endpoint.file:
        file = {"type": "string", "format": "binary"}
        fields = {"model": model, "stream": {"type": "boolean"}, endpoint.file: file}
        content = {"multipart/form-data": {"schema": {**schema, "properties": fields}}, **content}
    return content
