"""Traces for X-Ray of all functions but the authorizer, whose start they would make longer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeVar

from aws_lambda_powertools.tracing import Tracer

from functions._wiring import settings
from inferline import logs
from inferline.errors import InferLineError

log = logging.getLogger(__name__)

R = TypeVar("R")
Handler = Callable[[dict[str, Any], Any], R]

#: It does nothing outside Lambda. Without patches: those would record addresses and statements.
_TRACER: Final = Tracer(service=settings.stack, auto_patch=False)


def traced(handler: Handler[R]) -> Handler[R]:
    """Wrap ``handler`` in a trace of its time, and of nothing that it gets, returns or raises."""
    wrapped: Handler[R] = _TRACER.capture_lambda_handler(
        wordless(handler), capture_response=False, capture_error=False
    )
    return wrapped


def wordless(handler: Handler[R]) -> Handler[R]:
    """Wrap ``handler`` so that unexpected errors say nothing: Lambda writes them into the log."""

    @wraps(handler)
    def handle(event: dict[str, Any], context: Any) -> R:
        try:
            return handler(event, context)
        except (InferLineError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001  # Whatever it is, what it says is not told.
            log.error("it failed unforeseen: %s", logs.where(error))
            raise RuntimeError("It failed unforeseen; the log says where.") from None

    return handle
