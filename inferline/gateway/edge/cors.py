"""CORS: the pages of other origins that may send requests, and the headers they may read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

METHODS: Final = ("GET", "HEAD", "POST", "DELETE")
#: The headers that a page may read besides a few standard ones.
EXPOSED: Final = (
    *("x-request-id", "request-id", "retry-after", "retry-after-ms", "x-should-retry"),
    *("x-inferline-provider", "x-inferline-attempt", "x-inferline-queue-ms"),
    *(
        f"x-ratelimit-{what}-{of}"
        for what in ("limit", "remaining", "reset")
        for of in ("requests", "tokens")
    ),
)
#: How long a browser may cache a preflight, seconds; some allow two hours at most.
MAX_AGE_SECONDS: Final = 3600


def opened(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """Return ``app`` behind a layer that answers the preflights of pages of ``origins``."""
    return CORSMiddleware(
        app,
        allow_origins=tuple(origins),
        allow_methods=METHODS,
        allow_headers=("*",),
        expose_headers=EXPOSED,
        max_age=MAX_AGE_SECONDS,
        # Some browsers send a preflight as well for addresses that are not public.
        allow_private_network=True,
    )
