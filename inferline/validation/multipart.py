"""
Multipart forms, in which audio and pictures arrive.

The body goes to the backend unchanged, so only the name of each part and the position of its value
are read. What another parser could read differently is refused.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from inferline.errors import InvalidRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: Parts of a form; Starlette takes as many.
PARTS_MAX: Final = 1000
#: Headers of a part, and one line of them, bytes.
HEADERS_MAX: Final = 8
HEADER_BYTES_MAX: Final = 4096

_FORM: Final = "multipart/form-data"
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
#: Encodings that leave a value as it is; aiohttp decodes the others and Starlette does not.
_PLAIN: Final = frozenset({"7bit", "8bit", "binary"})

# It warns of what the client is told in an error.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class FormPart:
    """One part of a form, its value being ``body[start:end]``."""

    #: Empty for none.
    name: str
    #: True if it has a file name that all backends see, so that its value is a file's content.
    is_file: bool
    start: int
    end: int


def is_form(content_type: str) -> bool:
    """Return True if a content type is that of a multipart form."""
    return content_type.partition(";")[0].strip().lower() == _FORM


def parts_of(content_type: str, body: bytes) -> list[FormPart]:
    """Return the parts of a form, in order. Raises InvalidRequest."""
    reading = _Reading()
    try:
        parser = MultipartParser(
            boundary_of(content_type),
            reading.callbacks(),
            max_header_count=HEADERS_MAX,
            max_header_size=HEADER_BYTES_MAX,
        )
        parser.write(body)
    except FormParserError as refused:
        raise InvalidRequest(f"The body is not a valid form: {refused}.") from None
    if not reading.is_whole:
        raise InvalidRequest("The body is not a valid form: it has no end.")
    return reading.parts


def replaced(body: bytes, part: FormPart, value: bytes) -> bytes:
    """Return the form with another value for one of its parts."""
    return body[: part.start] + value + body[part.end :]


def rebound(body: bytes, content_type: str, other: str) -> bytes:
    """Return the form with the boundary of ``other``: clients make a new one for each try."""
    return body.replace(b"--" + boundary_of(content_type), b"--" + boundary_of(other))


def unbound(body: bytes, content_type: str) -> bytes:
    """Return the form without its boundary, which identifies a repeat."""
    return body.replace(b"--" + boundary_of(content_type), b"--")


def boundary_of(content_type: str) -> bytes:
    """Return a form's boundary. Raises InvalidRequest."""
    header = _header(content_type)
    boundaries = [value for name, value in header if name.lower() == "boundary"]
    if len(boundaries) != 1 or not _BOUNDARY.fullmatch(boundaries[0]):
        raise InvalidRequest("The Content-Type header has no boundary as RFC 2046 wants it.")
    return boundaries[0].encode()


def _header(text: str) -> list[tuple[str, str]]:
    """Return a header's value, and its parameters as RFC 2231 defines them."""
    message = Message()
    message["content-type"] = text
    parameters = message.get_params(failobj=[], unquote=True)
    return [(name, collapse_rfc2231_value(value)) for name, value in parameters]


class _Reading:
    """The parser's state."""

    def __init__(self) -> None:
        self.parts: list[FormPart] = []
        self.is_whole = False
        self._name = self._value = ""
        self._headers: dict[str, str] = {}
        self._span = 0, 0

    def callbacks(self) -> MultipartCallbacks:
        """
        Return the parser's callbacks; it gets the whole body at once, so its positions are the
        body's.
        """
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part,
            "on_end": self._on_end,
        }

    def _begin(self) -> None:
        if len(self.parts) >= PARTS_MAX:
            raise InvalidRequest(f"A form may have {PARTS_MAX} parts at the most.")
        self._headers, self._span = {}, (0, 0)
        self._name = self._value = ""

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name = data[start:end].decode("latin-1").lower()

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value = data[start:end].decode(errors="replace")

    def _on_header(self) -> None:
        if self._name in self._headers:
            raise InvalidRequest(f"A part of the form has the header `{self._name}` twice.")
        self._headers[self._name], self._name, self._value = self._value, "", ""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._span = start, end

    def _on_part(self) -> None:
        encoding = self._headers.get("content-transfer-encoding", "binary").strip().lower()
        if encoding not in _PLAIN:
            raise InvalidRequest("Send the parts of a form without a Content-Transfer-Encoding.")
        disposition = self._headers.get("content-disposition", "")
        names = [value for name, value in _header(disposition)[1:] if name.lower() == "name"]
        if len(names) > 1:
            raise InvalidRequest("A part of the form has two names.")
        is_file = b"filename" in parse_options_header(disposition.encode())[1]
        self.parts.append(FormPart(names[0] if names else "", is_file, *self._span))

    def _on_end(self) -> None:
        self.is_whole = True
