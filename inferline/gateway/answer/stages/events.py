"""Events that the gateway itself writes into a stream: an error, or a whole answer."""

from __future__ import annotations

import json
from http import HTTPStatus

from inferline.errors import BackendFailed, InferLineError
from inferline.streams import reported_error
from inferline.streams.reported_error import kind_of
from inferline.streams.sse import data_event
from inferline.tasks.task import AnswerHead
from inferline.validation.output_rules import is_media


def error_event(path: str, error: InferLineError) -> bytes:
    """Return ``error`` as the last event of a stream of the endpoint ``path``."""
    return reported_error.error_event(kind_of(path), error.body()["error"], error.status)


def only_event(path: str, head: AnswerHead, body: bytes) -> bytes:
    """
    Return a whole answer as the only event of a stream: JSON as it is, other text as a string.

    An answer with the status of an error becomes an error event. Raises BackendFailed for media.
    """
    if is_media(head.content_type):
        raise BackendFailed("The answer is no stream. Ask for it without one.")
    try:
        document = json.loads(body)
    except ValueError:
        document = body.decode(errors="replace")
    kind = kind_of(path)
    is_read = kind in ("choices", "other") and reported_error.is_nested(document)
    if head.status < HTTPStatus.BAD_REQUEST or is_read:
        return data_event(json.dumps(document).encode())
    return reported_error.error_event(kind, reported_error.error_of(document) or {}, head.status)
