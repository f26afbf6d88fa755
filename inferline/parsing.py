"""Parsers of options' values. Each raises ValueError that says what the value must be."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

_BOOLEANS: Final = {"1": True, "true": True, "0": False, "false": False}
#: The scheme, host and port of a web page, as browsers send them in `Origin`: no path.
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,*]+")
_STACK: Final = re.compile(r"[a-z]([a-z0-9-]{0,11}[a-z0-9])?")


def parse_int(value: object) -> int:
    """Return a whole number, given as text or in JSON; 8.0 is one."""
    if isinstance(value, str) and "." in value:
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError
    return int(value)


def parse_float(value: object) -> float:
    """Return a number, given as text or in JSON."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    return float(value)


def parse_bool(value: object) -> bool:
    """Return a truth value, given as text or in JSON."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in _BOOLEANS:
        raise ValueError("must be true or false")
    return _BOOLEANS[value.lower()]


def parse_text(value: object) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


def parse_list(value: object) -> tuple[str, ...]:
    """Return texts, given with commas, as JSON in a text, or as a list."""
    if isinstance(value, str):
        value = _from_json(value) if value.startswith("[") else split(value)
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of texts")
    return tuple(value)


def parse_names(value: object) -> tuple[str, ...]:
    """Return names, given with commas; one may begin with a bracket."""
    return split(parse_text(value))


def split(value: str) -> tuple[str, ...]:
    """Return the parts between commas, without those that are empty."""
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _from_json(value: str) -> object:
    import json

    try:
        return json.loads(value)
    except ValueError:
        return None


def parse_url(value: object) -> str:
    """Return an address of HTTP, without a slash at its end."""
    url = parse_text(value)
    try:
        parts = urlsplit(url)
        is_http = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # Unpaired brackets, or a port that is none.
        is_http = False
    if not is_http:
        raise ValueError("must be an address such as http://127.0.0.1:8001/v1")
    return url.rstrip("/")


def parse_stack(value: object) -> str:
    """Return the name of a stack."""
    if not isinstance(value, str) or not _STACK.fullmatch(value):
        raise ValueError("must be 1 to 13 of a-z, 0-9 and -, a letter first and no - at the end")
    return value


def parse_origins(value: object) -> tuple[str, ...]:
    """Return web origins."""
    origins = parse_list(value)
    if not all(origin == "*" or _ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("must be origins without a path, such as https://a.example, or *")
    return origins
