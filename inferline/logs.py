"""
How log lines are written: of an exception its kind and its place, never its words, which may hold
part of a prompt.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Final

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
#: It tells in its message what a call was given, and what came of it.
_ASYNCIO: Final = "asyncio"
_UNFORESEEN: Final = "a call failed unforeseen"

#: What `logging` has of an exception.
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def where(error: BaseException) -> str:
    """The kind and the place of an exception, of those in its group and of what led to it."""
    return "\nafter ".join(_places(error, set()))


def _places(error: BaseException, seen: set[int]) -> Iterator[str]:
    if id(error) in seen:
        return
    seen.add(id(error))
    yield f"{type(error).__name__} at\n{''.join(traceback.format_tb(error.__traceback__))}".rstrip()
    for one in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _places(one, seen)
    if (cause := error.__cause__ or error.__context__) is not None:
        yield from _places(cause, seen)


class Formatter(logging.Formatter):
    """Writes lines for people."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """Write a line; the record stays as it is for other handlers."""
        return super().format(wordless(record))

    def formatException(self, ei: ExcInfo) -> str:
        """Write where an exception came from."""
        return where(ei[1]) if ei[1] is not None else ""


def wordless(record: logging.LogRecord) -> logging.LogRecord:
    """The record without what asyncio says of calls, and without a text made by others."""
    found = logging.makeLogRecord({**record.__dict__, "exc_text": None})
    if record.name == _ASYNCIO:
        first = record.getMessage().partition("\n")[0]
        found.msg, found.args = _UNFORESEEN if record.exc_info else first, None
    return found


def write(level: str, *ours: str) -> None:
    """
    Have this process write its log: from ``level`` on what ``ours`` say, the loggers of our
    packages; of all others warnings, since a library that tells of details tells of what it passes
    on.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in ours:
        logging.getLogger(name).setLevel(level)
