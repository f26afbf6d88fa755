"""A multipart form with a file, parsed as it arrives: the file's bytes go on, the texts stay."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from inferline.errors import InvalidRequest
from inferline.validation.multipart import HEADER_BYTES_MAX, HEADERS_MAX, boundary_of, is_form

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: Parts of a form beside the file, and the bytes of each.
FIELDS_MAX: Final = 32
FIELD_BYTES_MAX: Final = 4096


class FileForm:
    """
    A form's texts and its one file, whose bytes go to ``take``.

    The order of the parts is free: openai-node sends the file first. Fields with other names than
    ``text_fields`` are ignored. Methods raise InvalidRequest.
    """

    def __init__(
        self,
        content_type: str,
        file_field: str,
        text_fields: Collection[str],
        take: Callable[[bytes], None],
    ) -> None:
        if not is_form(content_type):
            raise InvalidRequest(
                f"Send a form (multipart/form-data) with the file as `{file_field}`."
            )
        #: The texts by their names.
        self.fields: dict[str, str] = {}
        #: Empty for a file without a name.
        self.filename = ""
        self._file_field = file_field
        self._text_fields = text_fields
        self._parts = 0
        self._take = take
        self._has_file = self._is_whole = self._is_file = False
        self._name = ""
        self._value = bytearray()
        self._header = [bytearray(), bytearray()]
        self._disposition = b""
        self._parser = MultipartParser(
            boundary_of(content_type),
            self._callbacks(),
            max_header_count=HEADERS_MAX,
            max_header_size=HEADER_BYTES_MAX,
        )

    def write(self, data: bytes) -> None:
        """Parse the next bytes of the body."""
        try:
            self._parser.write(data)
        except FormParserError as refused:
            raise InvalidRequest(f"The body is not a valid form: {refused}.") from None

    def finish(self) -> None:
        """Check that the form is whole and had a file."""
        if not self._is_whole:
            raise InvalidRequest("The body is not a valid form: it has no end.")
        if not self._has_file:
            raise InvalidRequest(
                f"The form has no file. Send it as `{self._file_field}`.", param=self._file_field
            )

    def _callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_name,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part,
            "on_end": self._on_end,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > FIELDS_MAX + 1:
            raise InvalidRequest(f"A form may have {FIELDS_MAX} fields beside its file at most.")
        self._header, self._disposition = [bytearray(), bytearray()], b""
        self._value = bytearray()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _on_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = [bytearray(), bytearray()]

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode(errors="replace")
        self._is_file = self._name == self._file_field
        if not self._is_file:
            return
        if self._has_file:
            raise InvalidRequest("Send one file in a request.", param=self._file_field)
        self._has_file = True
        self.filename = options.get(b"filename", b"").decode(errors="replace")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._take(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > FIELD_BYTES_MAX:
            raise InvalidRequest(f"A field may have {FIELD_BYTES_MAX} bytes at most.")

    def _on_part(self) -> None:
        if self._is_file or self._name not in self._text_fields:
            return
        if self._name in self.fields:
            raise InvalidRequest("A field of the form is there twice.", param=self._name)
        self.fields[self._name] = self._value.decode(errors="replace")

    def _on_end(self) -> None:
        self._is_whole = True
