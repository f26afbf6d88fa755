"""Patterns of model names, with the shell's wildcards: the scope of a key, a token or a tenant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

#: All models.
EVERY: Final = ("*",)
#: A model's name, with the wildcards of the shell.
PATTERN: Final = re.compile(r"[A-Za-z0-9_./:@+*?\[\]!-]{1,128}")
#: How long the patterns of one key or tenant may be together, with a character between two: at
#: API Gateway they travel with each request in a header.
PATTERNS_CHARS_MAX: Final = 1024


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return True if any of the patterns matches a name; case matters."""
    return any(pattern == "*" or fnmatchcase(name, pattern) for pattern in patterns)


def check(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the patterns if they are valid. Raises ValueError with the reason."""
    wrong = [pattern for pattern in patterns if not PATTERN.fullmatch(pattern)]
    if wrong or not patterns:
        raise ValueError("must be names or patterns such as 'a,b*'")
    if len(",".join(patterns)) > PATTERNS_CHARS_MAX:
        raise ValueError(f"must have at most {PATTERNS_CHARS_MAX} characters together")
    return patterns
