"""Events of the gateway's own, for streams that are no longer, or never were, their backend's."""

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
    """``error`` as the last event of a stream of the backend's ``path``."""
    return reported_error.error_event(kind_of(path), error.body()["error"], error.status)


def only_event(path: str, head: AnswerHead, body: bytes) -> bytes:
    """
    A whole answer as the one event of a stream: JSON, and what is none as a JSON string.

    What is told with the status of an error elsewhere is one to this stream's clients too. Raises
    BackendFailed for what is media.
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
