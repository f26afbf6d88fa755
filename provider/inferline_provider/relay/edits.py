"""Small changes of a JSON document that leave every other byte of it as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

#: Places of a document that are tried. A client may write any number, and each costs a parse.
_TRIES_MAX: Final = 8
#: Characters between the names and the values of an object.
_BETWEEN: Final = re.compile(r"[ \t\r\n]*[:,]?[ \t\r\n]*")


def read(document: bytes) -> Any:
    """Return the value of a JSON document; None when it is no JSON."""
    try:
        return json.loads(document)
    except (ValueError, RecursionError):
        return None


def replaced(document: bytes, pattern: bytes, text: bytes) -> Iterator[bytes]:
    """Yield the document with `text` in place of the pattern's group, at each match."""
    for match in re.finditer(pattern, document):
        start, end = match.span(1)
        yield document[:start] + text + document[end:]


def first(changes: Iterable[bytes], wanted: Any) -> bytes | None:
    """Return the first of the changed documents whose value is `wanted`; None for none."""
    for changed in islice(changes, _TRIES_MAX):
        if read(changed) == wanted:
            return changed
    return None


def fields(document: bytes) -> dict[str, bytes]:
    """Return the fields of a JSON object by name, each as it is written, name included."""
    text, decoder = document.decode(), json.JSONDecoder()
    values: dict[str, bytes] = {}
    start = _past(text, text.index("{") + 1)
    while text[start] != "}":
        name, end = decoder.raw_decode(text, start)
        _, end = decoder.raw_decode(text, _past(text, end))
        values[name] = text[start:end].encode()
        start = _past(text, end)
    return values


def _past(text: str, at: int) -> int:
    """Return the position of the next name, value or end."""
    match = _BETWEEN.match(text, at)
    return match.end() if match else at
