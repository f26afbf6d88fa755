"""Which pages of other origins may ask from a browser, and what of an answer they may read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

METHODS: Final = ("GET", "HEAD", "POST", "DELETE")
#: What a browser lets a page read besides a few headers that it knows.
EXPOSED: Final = (
    *("x-request-id", "request-id", "retry-after", "retry-after-ms", "x-should-retry"),
    *("x-inferline-provider", "x-inferline-attempt", "x-inferline-queue-ms"),
    *(
        f"x-ratelimit-{what}-{of}"
        for what in ("limit", "remaining", "reset")
        for of in ("requests", "tokens")
    ),
)
#: How long a browser need not ask again, seconds; some take no more than two hours.
MAX_AGE_SECONDS: Final = 3600


def opened(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """``app`` for pages of ``origins`` too, whose preflights are answered before anything else."""
    return CORSMiddleware(
        app,
        allow_origins=tuple(origins),
        allow_methods=METHODS,
        allow_headers=("*",),
        expose_headers=EXPOSED,
        max_age=MAX_AGE_SECONDS,
        # Some browsers ask for leave as well where the gateway's address is not a public one.
        allow_private_network=True,
    )
