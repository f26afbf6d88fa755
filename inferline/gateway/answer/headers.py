"""The response headers of a backend's answer."""

from __future__ import annotations

from typing import Final

from inferline.tasks.task import AnswerHead
from inferline.validation.output_rules import is_media

EVENT_STREAM: Final = "text/event-stream"


def headers_of(head: AnswerHead, attempt: int, length: int | None) -> dict[str, str]:
    """Return the headers of a backend's answer; ``length`` is None for a streamed body."""
    headers = {
        "content-type": head.content_type or "application/json",
        "x-inferline-attempt": str(attempt),
        "x-inferline-queue-ms": str(head.queue_ms),
    }
    if is_media(head.content_type):
        headers["x-content-type-options"] = "nosniff"
    if head.provider:
        headers["x-inferline-provider"] = head.provider
    if length is not None:
        headers["content-length"] = str(length)
    elif head.content_type.startswith(EVENT_STREAM):
        headers |= {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return headers
