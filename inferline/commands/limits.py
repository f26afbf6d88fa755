"""The flags that limit how much a key or a tenant may use."""

from __future__ import annotations

import argparse
from typing import Final

from inferline.accounts.limits import LIMIT_MAX, NAMES, Limits, replaced
from inferline.settings import SettingsError

#: The word that removes a limit, so that the gateway's setting applies again.
_DEFAULT: Final = "default"
_MEANINGS: Final = {
    "requests_per_minute": "requests per minute",
    "tokens_per_minute": "tokens per minute, of prompts and answers",
    "tokens_per_day": "tokens per day (UTC)",
    "concurrent_requests": "requests at the same time",
}


def add_limits(parser: argparse.ArgumentParser, unless: str) -> None:
    """Declare a flag for each limit; ``unless`` says what holds without it."""
    for name in NAMES:
        parser.add_argument(
            _flag(name),
            metavar="N",
            help=f"{_MEANINGS[name]}; 0 for no limit, {_DEFAULT} for the gateway's setting "
            f"({unless})",
        )


def limited(options: argparse.Namespace, before: Limits) -> Limits | None:
    """Return ``before`` with the limits of the flags; None without any. Raises SettingsError."""
    given = {name: getattr(options, name) for name in NAMES}
    changes = {name: _number(name, text) for name, text in given.items() if text is not None}
    return replaced(before, changes) if changes else None


def _number(name: str, text: str) -> int | None:
    if text == _DEFAULT:
        return None
    if not (text.isascii() and text.isdigit() and int(text) <= LIMIT_MAX):
        raise SettingsError(
            f"{_flag(name)} must be a whole number up to {LIMIT_MAX}, or {_DEFAULT}, got {text!r}"
        )
    return int(text)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
