"""A model under another name: the one thing in a request or an answer that may be changed."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import quote, unquote_plus

from inferline.validation.multipart import parts_of, replaced
from inferline_provider.relay import edits

#: Where an answer may name its model besides its top level: the first event of the Responses API
#: and of the Messages API wraps the answer.
_WRAPPERS: Final = ("response", "message")


def rename(document: bytes, old: str, new: str) -> bytes:
    """
    Return the JSON `document` with its model called `new` where it was called `old`.

    Every other byte stays as it is. What is no JSON object, or names another model, comes back
    unchanged.
    """
    if b'"model"' not in document:
        return document
    wanted = _renamed(edits.read(document), old, new)
    if wanted is None:
        return document
    spellings = b"|".join(map(re.escape, _spellings(old)))
    pattern = rb'"model"\s*:\s*(' + spellings + rb")"
    changed = edits.first(edits.replaced(document, pattern, json.dumps(new).encode()), wanted)
    if changed is not None:
        return changed
    return json.dumps(wanted, ensure_ascii=False, separators=(",", ":")).encode()


def rename_in_request(body: bytes, content_type: str, old: str, new: str) -> bytes:
    """Return a request's body with its model renamed; it is JSON unless its type says otherwise."""
    if not content_type:
        return rename(body, old, new)
    for part in parts_of(content_type, body):
        if part.name == "model" and body[part.start : part.end] == old.encode():
            return replaced(body, part, new.encode())
    return body


def rename_in_query(query: str, old: str, new: str) -> str:
    """Return a request's query with its model renamed."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    renamed = (
        f"{name}={quote(new, safe='')}"
        if (name, unquote_plus(value)) == ("model", old)
        else f"{name}{sign}{value}"
        for name, sign, value in pairs
    )
    return "&".join(renamed)


def _renamed(document: Any, old: str, new: str) -> dict[str, Any] | None:
    """Return `document` as it should be; None when nothing is to be changed."""
    if not isinstance(document, dict):
        return None
    if document.get("model") == old:
        return {**document, "model": new}
    for key in _WRAPPERS:
        inner = document.get(key)
        if isinstance(inner, dict) and inner.get("model") == old:
            return {**document, key: {**inner, "model": new}}
    return None


def _spellings(name: str) -> list[bytes]:
    """Return the ways in which JSON writers write a name."""
    plain, escaped = (json.dumps(name, ensure_ascii=ascii_only) for ascii_only in (False, True))
    return [text.encode() for text in dict.fromkeys((plain, escaped, plain.replace("/", "\\/")))]
