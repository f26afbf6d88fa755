"""Forwarding: the query and headers that reach the backend besides the path and the body."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_plus

from inferline.errors import InvalidRequest
from inferline.validation.multipart import unbound

CONTENT_TYPE: Final = "content-type"
#: What the Messages API tells in headers.
ANTHROPIC: Final = ("anthropic-version", "anthropic-beta")
#: Headers that may be forwarded, in lower case.
_HEADERS: Final = frozenset({CONTENT_TYPE, *ANTHROPIC})
#: Characters of one of them, and of a query.
HEADER_CHARS_MAX: Final = 2048
QUERY_CHARS_MAX: Final = 2048

_VALUE: Final = re.compile(rf"[ -~]{{1,{HEADER_CHARS_MAX}}}")
#: Visible characters but the one that would end it.
_QUERY: Final = re.compile(rf"[!\"$-~]{{0,{QUERY_CHARS_MAX}}}")
#: Parameters that hold what opens a gateway or a server, without marks between their words; theirs
#: is the provider's to show.
_CREDENTIAL: Final = re.compile(
    r"(.*(api|access|account|auth|bearer|client|id|private|refresh|secret|security|session"
    r"|subscription))?(key|token|secret)"
    r"|(.*(client|user|db))?(password|passwd|pwd|passphrase)"
    r"|auth|authorization|bearer|credentials?|jwt|sig|signature"
    r"|(xamz|xgoog)(credential|signature)"
)
#: What stands between the words of a name.
_MARKS: Final = re.compile(r"[-_. ]")


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The query and the headers of one request that go on to the backend."""

    #: As the client wrote it, but for credentials; without the question mark.
    query: str = ""
    #: By name in lower case; no content type means JSON.
    headers: Mapping[str, str] = field(default_factory=dict)

    def identity(self, body: bytes) -> str:
        """Return what identifies a repeat beyond its body; empty if the body alone does."""
        if not (self.query or self.headers):
            return ""
        content_type = self.headers.get(CONTENT_TYPE)
        others = sorted((n, text) for n, text in self.headers.items() if n != CONTENT_TYPE)
        digest = hashlib.sha256(f"{self.query}\n{others}\n".encode())
        digest.update(unbound(body, content_type) if content_type else body)
        return digest.hexdigest()


#: Of most requests.
NOTHING: Final = Forwarded()


def query_of(raw: bytes) -> str:
    """Return a request's query without credentials. Raises InvalidRequest."""
    text = raw.decode("latin-1")
    if not _QUERY.fullmatch(text):
        raise InvalidRequest(
            f"The query may have {QUERY_CHARS_MAX} visible ASCII characters at the most."
        )
    return "&".join(pair for pair in text.split("&") if not _is_credential(pair))


def value_of(name: str, lines: Sequence[str]) -> str:
    """Return a header's value, several lines joined. Raises InvalidRequest."""
    text = ",".join(lines)
    if not _VALUE.fullmatch(text):
        raise InvalidRequest(
            f"The header {name} may have {HEADER_CHARS_MAX} visible ASCII characters at the most."
        )
    return text


def parameters_of(query: str) -> list[tuple[str, str]]:
    """Split a query into names and values; some servers also split at semicolons."""
    pairs = (pair.partition("=") for pair in re.split("[&;]", query) if pair)
    return [(unquote_plus(name), unquote_plus(value)) for name, _, value in pairs]


def may_pass(query: object, headers: object) -> bool:
    """Return True if a row, which anybody may have written, holds only what may be forwarded."""
    if type(query) is not str or not _QUERY.fullmatch(query) or type(headers) is not dict:
        return False
    return all(
        name in _HEADERS and type(text) is str and _VALUE.fullmatch(text)
        for name, text in headers.items()
    )


def _is_credential(pair: str) -> bool:
    names = (_MARKS.sub("", name).casefold() for name, _ in parameters_of(pair))
    return any(map(_CREDENTIAL.fullmatch, names))
