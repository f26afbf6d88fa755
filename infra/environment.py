"""
The functions' environment, by the settings' own names: a setting that was renamed can't be deployed
half-way.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from inferline.settings import Settings, env_name

_NAMES: Final = {spec.name: env_name(spec) for spec in fields(Settings)}


def environment(**values: str) -> dict[str, str]:
    """Variables for settings by their fields' names. Raises KeyError for one that is none."""
    return {_NAMES[name]: value for name, value in values.items()}
