"""Events of the gateway's own, for streams that are no longer, or never were, their backend's."""

from __future__ import annotations

import json
from typing import Final

from inferline.breach import is_media
from inferline.errors import BackendFailed, InferLineError
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
    told = {"type": "error", "error": {"type": "api_error", "message": str(error)}}
    return b"event: error\n" + data_event(json.dumps(told).encode())


def only_event(body: bytes, content_type: str) -> bytes:
    """
    A whole answer as the one event of a stream: JSON, and what is none as a JSON string.

    Raises BackendFailed for what is media.
    """
    if is_media(content_type):
        raise BackendFailed("The answer is no stream. Ask for it without one.")
    try:
        document = json.loads(body)
    except ValueError:
        document = body.decode(errors="replace")
    return data_event(json.dumps(document).encode())
