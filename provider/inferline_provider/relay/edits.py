"""Small changes of a JSON document that leave every other byte of it as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

#: How many places of a document are tried. A client may write as many as it likes, and each is
#: read.
_TRIES_MAX: Final = 8
#: What stands between the names and the values of an object.
_BETWEEN: Final = re.compile(r"[ \t\r\n]*[:,]?[ \t\r\n]*")


def read(document: bytes) -> Any:
    """Return what a document says; None when it is no JSON."""
    try:
        return json.loads(document)
    except (ValueError, RecursionError):
        return None


def replaced(document: bytes, pattern: bytes, text: bytes) -> Iterator[bytes]:
    """Yield the document with `text` for the pattern's group, at each place where that stands."""
    for found in re.finditer(pattern, document):
        start, end = found.span(1)
        yield document[:start] + text + document[end:]


def first(changes: Iterable[bytes], wanted: Any) -> bytes | None:
    """Return the first of the changed documents that says what is wanted; None for none."""
    for changed in islice(changes, _TRIES_MAX):
        if read(changed) == wanted:
            return changed
    return None


def fields(document: bytes) -> dict[str, bytes]:
    """Return the fields of a JSON object as they are written, each with its name."""
    text, decoder = document.decode(), json.JSONDecoder()
    found: dict[str, bytes] = {}
    start = _past(text, text.index("{") + 1)
    while text[start] != "}":
        name, end = decoder.raw_decode(text, start)
        _, end = decoder.raw_decode(text, _past(text, end))
        found[name] = text[start:end].encode()
        start = _past(text, end)
    return found


def _past(text: str, at: int) -> int:
    """Return where the next name, value or end stands, past white space, a colon or a comma."""
    match = _BETWEEN.match(text, at)
    return match.end() if match else at
