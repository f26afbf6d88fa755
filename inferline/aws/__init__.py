"""The one package that speaks AWS: a lean client, and the seams of the core built upon it."""

from __future__ import annotations
