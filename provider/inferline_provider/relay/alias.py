"""Model names: a backend may know a model by another name than clients do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote, unquote_plus

from inferline.streams.sse import Event
from inferline.validation.multipart import parts_of, replaced
from inferline_provider.relay import edits

#: Fields that wrap the answer, and its model's name, in the first event of the Responses API and of
#: the Messages API.
_WRAPPERS: Final = ("response", "message")

#: Changes the model's name in an answer, or in one event's data; see `rename`.
Rename = Callable[[bytes], bytes]


class Renaming:
    """A stage that renames the model in each event that names it."""

    def __init__(self, rename: Rename) -> None:
        self._rename = rename

    def feed(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield the events, renamed; one with several lines of data stays as it is."""
        for event in events:
            if b'"model"' in event.data and b"\n" not in event.data:
                data = self._rename(event.data)
                yield Event(event.event, data, event.raw.replace(event.data, data, 1))
            else:
                yield event

    def end(self) -> Iterable[Event]:
        """Return nothing: no event is held back."""
        return ()


def rename(document: bytes, old: str, new: str) -> bytes:
    """
    Return the JSON `document` with the model's name `new` in place of `old`.

    Every other byte stays as it is, and so does what is no JSON object or names another model.
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
    """Return `document` with the new name; None when it does not have the old one."""
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
    """Return the spellings of a name by different JSON writers."""
    plain, escaped = (json.dumps(name, ensure_ascii=ascii_only) for ascii_only in (False, True))
    return [text.encode() for text in dict.fromkeys((plain, escaped, plain.replace("/", "\\/")))]
