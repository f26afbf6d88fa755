"""Traces for X-Ray of all functions but the authorizer, whose start they would make longer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from aws_lambda_powertools.tracing import Tracer

from functions._wiring import settings

R = TypeVar("R")

#: It does nothing outside Lambda. Without patches: those would record addresses and statements.
_TRACER: Final = Tracer(service=settings.stack, auto_patch=False)


def traced(handler: Callable[[dict[str, Any], Any], R]) -> Callable[[dict[str, Any], Any], R]:
    """``handler`` with a trace of its time, and of nothing that it is given, gives or raises."""
    wrapped: Callable[[dict[str, Any], Any], R] = _TRACER.capture_lambda_handler(
        handler, capture_response=False, capture_error=False
    )
    return wrapped
