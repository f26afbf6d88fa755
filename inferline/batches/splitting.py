"""The lines of a file, which comes in pieces of any length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_BOM: Final = b"\xef\xbb\xbf"


class LineSplitter:
    """
    A division of a file into lines, at line feeds alone: JSON texts may hold other separators.

    Lines are numbered from 1 as an editor does; blank ones are counted and left out.
    """

    def __init__(self, bytes_max: int) -> None:
        """``bytes_max``: the length of the longest line that is kept."""
        self._bytes_max = bytes_max
        self._begun = b""
        #: The line under way is too long already, and its beginning is dropped.
        self._skips = False
        self._number = 0

    def lines(self, piece: bytes) -> Iterator[tuple[int, bytes | None]]:
        """Yield the number of each line that ends in ``piece``, and the line; None: too long."""
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            self._begin(piece[start:end])
            yield from self._end()
            start = end + 1
        self._begin(piece[start:])

    def last(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield the last line, if nothing ends it."""
        if self._begun or self._skips:
            yield from self._end()

    def _begin(self, part: bytes) -> None:
        self._begun = self._begun + part if self._begun else part
        # A byte order mark and a carriage return are no part of the line.
        if len(self._begun) > self._bytes_max + len(_BOM) + 1:
            self._begun, self._skips = b"", True

    def _end(self) -> Iterator[tuple[int, bytes | None]]:
        self._number += 1
        line, skipped = self._begun, self._skips
        self._begun, self._skips = b"", False
        if self._number == 1:
            line = line.removeprefix(_BOM)
        line = line.removesuffix(b"\r")
        if skipped or len(line) > self._bytes_max:
            yield self._number, None
        elif line.strip():
            yield self._number, line
