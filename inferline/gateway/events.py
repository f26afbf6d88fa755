"""Events of the gateway's own, for streams that are no longer, or never were, their backend's."""

from __future__ import annotations

import json
from typing import Final

from inferline.errors import InferLineError
from inferline.gateway import anthropic
from inferline.sse import data_event

MESSAGES_PATH: Final = "/v1/messages"


def error_event(path: str, error: InferLineError) -> bytes:
    """
    ``error`` as the last event of a stream of the backend's ``path``.

    Without a name, because OpenAI's SDKs overlook a named one; but those of the Messages API
    overlook all that are not.
    """
    if path != MESSAGES_PATH:
        return data_event(json.dumps(error.body()).encode())
    error_object = error.body()["error"] | {"type": anthropic.error_type(error.status)}
    told = {"type": "error", "error": error_object}
    return b"event: error\n" + data_event(json.dumps(told).encode())


def only_event(path: str, status: int, body: bytes) -> bytes:
    """A whole answer as the one event of a stream: JSON, and what is none as a JSON string."""
    if path == MESSAGES_PATH and status >= 400:
        return b"event: error\n" + data_event(anthropic.error_body(status, body, path))
    try:
        document = json.loads(body)
    except ValueError:
        document = body.decode(errors="replace")
    return data_event(json.dumps(document).encode())
