"""The prefixes of the gateway's addresses."""

from __future__ import annotations

from typing import Final

#: Every route is served below each of these; the documentation shows the first.
PREFIXES: Final = ("/v1", "", "/api", "/api/v1")
