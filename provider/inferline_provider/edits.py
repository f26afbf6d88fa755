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
