"""
The functions' environment, by the settings' own names: a setting that was renamed can't be deployed
half-way.
"""

from __future__ import annotations

from typing import Final

from inferline.options import options_of
from inferline.settings import Settings

_NAMES: Final = {option.name: option.variable for option in options_of(Settings)}


def environment(**values: str) -> dict[str, str]:
    """
    Return the variables for settings by their fields' names. Raises KeyError for one that is none.
    """
    return {_NAMES[name]: value for name, value in values.items()}
