"""Progress of long work: one line that is written anew, on a terminal."""

from __future__ import annotations

from typing import Final, TextIO

from inferline.terminal import columns

_BAR_CHARS: Final = 24
_FULL, _REST = "█", "░"


class Progress:
    """A line that is written anew on a terminal; nothing is written to a file or a pipe."""

    def __init__(self, out: TextIO | None) -> None:
        self._out = out
        self._width = columns(out) if out is not None else None
        self._is_begun = False

    def show(self, line: str) -> None:
        """Write ``line`` in place of the last one."""
        if self._out is None or self._width is None:
            return
        self._is_begun = True
        print(f"\r\x1b[K{line[: self._width - 1]}", end="", file=self._out, flush=True)

    def end(self) -> None:
        """Take the line away."""
        if self._is_begun and self._out is not None:
            print("\r\x1b[K", end="", file=self._out, flush=True)


def bar(done: int, total: int) -> str:
    """Return a bar of the share that is done, with the percentage."""
    share = min(1.0, done / total) if total else 0.0
    full = round(share * _BAR_CHARS)
    return f"{_FULL * full}{_REST * (_BAR_CHARS - full)} {int(share * 100):3d} %"


def duration(seconds: float) -> str:
    """Return a time that is left, in its two largest units."""
    whole = max(0, round(seconds))
    for unit, size, lesser, small in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small} {lesser}"
    return f"{whole} s"
