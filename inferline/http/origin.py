"""Origins: the scheme, host and port of an address."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit


class Origin(NamedTuple):
    """The scheme, host and port of an address, for which a connection can be kept."""

    is_tls: bool
    host: str
    port: int
    #: As the Host header has it: without a port that goes without saying.
    authority: str


@lru_cache(maxsize=256)
def place(url: str) -> tuple[Origin, str]:
    """Return the origin of an http or https address, and its path with the query."""
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    port = parts.port or usual
    authority = host if port == usual else f"{host}:{port}"
    origin = Origin(parts.scheme == "https", parts.hostname or "", port, authority)
    return origin, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
