"""
Log lines without secrets: of an exception its type and place, never its message, which may hold
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
    """Return the type and place of an exception, of those in its group and of its causes."""
    return "\nafter ".join(_places(error, set()))


def _places(error: BaseException, seen: set[int]) -> Iterator[str]:
    if id(error) in seen:
        return
    seen.add(id(error))
    yield f"{type(error).__name__} at\n{''.join(traceback.format_tb(error.__traceback__))}".rstrip()
    for member in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _places(member, seen)
    if (cause := error.__cause__ or error.__context__) is not None:
        yield from _places(cause, seen)


class Formatter(logging.Formatter):
    """A formatter of log lines for people."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """Format a line; the record stays unchanged for other handlers."""
        return super().format(wordless(record))

    def formatException(self, ei: ExcInfo) -> str:
        """Format where an exception came from."""
        return where(ei[1]) if ei[1] is not None else ""


def wordless(record: logging.LogRecord) -> logging.LogRecord:
    """
    Return the record without asyncio's description of calls, and without texts made by others.
    """
    copy = logging.makeLogRecord({**record.__dict__, "exc_text": None})
    if record.name == _ASYNCIO:
        first = record.getMessage().partition("\n")[0]
        copy.msg, copy.args = _UNFORESEEN if record.exc_info else first, None
    return copy


def write(level: str, *ours: str) -> None:
    """
    Configure the process's log: from ``level`` on for the loggers of our packages, ``ours``, and
    warnings of all others, whose details would tell of what they pass on.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in ours:
        logging.getLogger(name).setLevel(level)
