"""The check of a client's form, as strict as that of JSON."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from inferline.errors import InvalidRequest
from inferline.validation.guard import STANDARD, Guard
from inferline.validation.multipart import parts_of
from inferline.validation.payload import Payload, check_pairs, choices_of, model_of, service_tier_of

#: What clients and servers write for a yes and a no, in lower case.
_YES: Final = frozenset({"true", "1", "yes", "on", "y", "t"})
_NO: Final = frozenset({"", "false", "0", "no", "off", "n", "f", "null", "none"})
#: Fields that decide where a task goes: to InferLine and the backend they must mean the same.
_ROUTED: Final = ("model", "stream", "service_tier")
#: Fields whose value is a text, even if that looks like JSON.
_TEXTS: Final = frozenset({"prompt", "input", "instructions", "negative_prompt"})
#: What no text has: then the value is a file's content, whatever its name says.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd]")
#: Longer than any word: base64, with or without its `data:`.
_MEDIA: Final = re.compile(r"\S{2000,}")


def read(content_type: str, body: bytes, guard: Guard = STANDARD) -> Payload:
    """
    Read what a request is routed by, if ``guard`` lets it pass.

    Raises only RequestError, whatever the bytes, as `payload.read` does.
    """
    fields: dict[str, str] = {}
    text_bytes = files = 0
    for part in parts_of(content_type, body):
        base = part.name.partition("[")[0]
        if base in _ROUTED and (part.is_file or base != part.name or base in fields):
            raise InvalidRequest(f"Send `{base}` once, as a text.", param=base)
        value = "" if part.is_file else body[part.start : part.end].decode(errors="replace")
        if part.is_file or _CONTROL.search(value):
            files += 1
            continue
        guard.check_field(part.name, _said(base, value))
        if _MEDIA.fullmatch(value):
            files += 1
        else:
            text_bytes += part.end - part.start
        fields[part.name] = value
    return Payload(
        model=model_of(fields),
        stream=_stream(fields.get("stream", "")),
        service_tier=service_tier_of(fields),
        choices=choices_of({"n": _number(fields.get("n", ""))}),
        text_bytes=text_bytes,
        files=files,
    )


def _said(name: str, value: str) -> Any:
    """Return the value of a field: some servers parse JSON in it."""
    if name in _TEXTS or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value, object_pairs_hook=check_pairs)
    except (ValueError, RecursionError):
        return value


def _stream(value: str) -> bool:
    word = value.strip().lower()
    if word not in _YES | _NO:
        raise InvalidRequest("`stream` must be true or false.", param="stream")
    return word in _YES


def _number(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
