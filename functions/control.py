"""Models, providers, metrics: the routes that answer at once."""

from __future__ import annotations

from functions._app import buffered

handler = buffered()
