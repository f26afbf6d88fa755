"""The options of commands that limit how much a key or a tenant may ask for."""

from __future__ import annotations

import argparse
from typing import Final

from inferline.accounts.limits import LIMIT_MAX, NAMES, Limits, replaced
from inferline.settings import SettingsError

#: What takes a limit of its own away, so that the settings' one holds again.
_DEFAULT: Final = "default"
_MEANINGS: Final = {
    "requests_per_minute": "how many requests it may make in a minute",
    "tokens_per_minute": "how many tokens, of prompt and answer, it may use in a minute",
    "tokens_per_day": "how many tokens it may use in a day of UTC",
    "concurrent_requests": "how many of its requests may be under way at once",
}


def add_limits(parser: argparse.ArgumentParser, unless: str) -> None:
    """Declare an option for each limit; ``unless`` says what holds without it."""
    for name in NAMES:
        parser.add_argument(
            _flag(name),
            metavar="N",
            help=f"{_MEANINGS[name]}; 0 for no limit, {_DEFAULT} for the gateway's own ({unless})",
        )


def limited(options: argparse.Namespace, before: Limits) -> Limits | None:
    """``before`` with what the options say; None when they say nothing. Raises SettingsError."""
    given = {name: getattr(options, name) for name in NAMES}
    told = {name: _number(name, text) for name, text in given.items() if text is not None}
    return replaced(before, told) if told else None


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
