"""Text for a terminal: tables that fit it, and no character that it would obey."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

Cells = Sequence[object]

#: How narrow a column may become in a table that is too wide for its terminal, characters.
COLUMN_CHARS_MIN: Final = 8
_GAP: Final = "  "
_CUT: Final = "…"


def printable(text: str) -> str:
    """Return one line of text with a question mark for each character that does not print."""
    return "".join(char if char.isprintable() else "?" for char in text)


def printable_lines(text: str) -> str:
    """Return text of several lines, each made printable."""
    return "\n".join(map(printable, text.split("\n")))


def columns(out: TextIO) -> int | None:
    """Return the width of the terminal that ``out`` writes to; None if it is a file or a pipe."""
    return shutil.get_terminal_size().columns if out.isatty() else None


def table(rows: Sequence[Cells], width: int | None = None) -> str:
    """
    Return ``rows``, the first of them the head, as columns; columns of numbers stand at the right.

    With a ``width``, long texts are cut until the lines fit it.
    """
    texts = [[_text(value) for value in row] for row in rows]
    numeric = [all(map(_is_number, column)) for column in zip(*rows[1:], strict=True)]
    widths = _widths(texts, numeric, width)
    lines = (
        _GAP.join(
            _cut(text, size).rjust(size) if is_numeric else _cut(text, size).ljust(size)
            for text, size, is_numeric in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in texts
    )
    return "\n".join(line if width is None else _cut(line, width) for line in lines)


def _widths(
    texts: Sequence[Sequence[str]], numeric: Iterable[bool], width: int | None
) -> list[int]:
    """Return each column's width: what its cells need, or less for those that need the most."""
    needed = [max(map(len, column)) for column in zip(*texts, strict=True)]
    if width is None:
        return needed
    # A number that is cut would be another number.
    least = [
        max(map(len, column[1:])) if is_numeric else 0
        for column, is_numeric in zip(zip(*texts, strict=True), numeric, strict=True)
    ]
    widths, room = needed, width - len(_GAP) * (len(needed) - 1)
    for most in range(max(needed), COLUMN_CHARS_MIN - 1, -1):
        widths = [max(low, min(size, most)) for low, size in zip(least, needed, strict=True)]
        if sum(widths) <= room:
            break
    return widths


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + _CUT


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | None)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return printable(str(value))
