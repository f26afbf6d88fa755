"""The headers with which a backend's answer goes to its client."""

from __future__ import annotations

from typing import Final

from inferline.tasks.task import AnswerHead
from inferline.validation.output_rules import is_media

EVENT_STREAM: Final = "text/event-stream"


def headers_of(head: AnswerHead, attempt: int, length: int | None) -> dict[str, str]:
    """The headers of a backend's answer; ``length`` is None for what is sent as it comes."""
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
