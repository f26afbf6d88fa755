"""
The common part of the commands that administer a stack.

They work on its registry table directly, with the operator's AWS credentials: IAM decides who may
do that.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from inferline.accounts import patterns
from inferline.commands.printing import OK
from inferline.names import NAME
from inferline.settings import Settings, SettingsError

if TYPE_CHECKING:
    from inferline.stores import StackStores

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"([0-9]{1,6})([smhd])")

Verb = Callable[["StackStores", argparse.Namespace], Awaitable[None]]


def add_verb(
    verbs: Any, name: str, help_text: str, environ: Mapping[str, str], does: Verb, **defaults: Any
) -> argparse.ArgumentParser:
    """Declare a verb that administers a stack; ``defaults`` are added to its options."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=help_text, description=_place(help_text)
    )
    parser.add_argument(
        "--stack", metavar="NAME", help="the stack (INFERLINE_STACK; default inferline)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")

    def run(options: argparse.Namespace) -> int:
        return asyncio.run(_on_stack(options, environ, does))

    parser.set_defaults(run=run, **defaults)
    return parser


def _place(help_text: str) -> str:
    return (
        f"{help_text[0].upper()}{help_text[1:]}. Works on the stack's registry table with your AWS "
        "credentials, in AWS_REGION (or at AWS_ENDPOINT_URL, an emulator's)."
    )


async def _on_stack(options: argparse.Namespace, environ: Mapping[str, str], does: Verb) -> int:
    async with opened(options, environ) as stores:
        await does(stores, options)
    return OK


@asynccontextmanager
async def opened(
    options: argparse.Namespace, environ: Mapping[str, str]
) -> AsyncIterator[StackStores]:
    """Open the stores of the stack that the options name. Raises SettingsError and Unavailable."""
    from inferline.aws.stores import open_operator_stores

    given = {"AWS_REGION": environ.get("AWS_DEFAULT_REGION", ""), **environ}
    if options.stack:
        given["INFERLINE_STACK"] = options.stack
    async with open_operator_stores(Settings.from_env(given)) as stores:
        yield stores


def now_ms() -> int:
    """Return milliseconds since 1970 by this machine's clock."""
    return time.time_ns() // 1_000_000


def date(ms: int | None) -> str | None:
    """Format a moment for people and programs."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def named(flag: str, text: str) -> str:
    """Check a name from the command line. Raises SettingsError."""
    if not NAME.fullmatch(text):
        raise SettingsError(
            f"{flag} must be 1 to 128 of the characters A-Z a-z 0-9 _ . / : @ + -, got {text!r}"
        )
    return text


def listed(text: str) -> tuple[str, ...]:
    """Split a text at its commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def model_patterns(text: str) -> tuple[str, ...]:
    """Parse patterns of models. Raises SettingsError."""
    try:
        return patterns.check(listed(text))
    except ValueError as error:
        raise SettingsError(f"--models {error}, got {text!r}") from None


def seconds(flag: str, text: str) -> int:
    """Parse a duration such as ``24h``, in seconds. Raises SettingsError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise SettingsError(f"{flag} must be a number with s, m, h or d behind it, got {text!r}")
    return int(match[1]) * _UNITS[match[2]]
