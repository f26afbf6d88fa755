"""A batch's lines on their way into shards, in a temporary file."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import IO

from inferline.tasks.shard import INPUT_BYTES_MAX, LINES_MAX


class LineSpool:
    """Lines in a temporary file, and an index of them in memory: 24 bytes a line."""

    def __init__(self, file: IO[bytes]) -> None:
        """``file``: an empty one, of the spool's own."""
        self._file = file
        self._ends = array("Q", [0])
        self._prefixes = array("Q")

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self._prefixes)

    def add(self, line: bytes, prefix: int) -> None:
        """Append a line, which ends without a line break."""
        self._file.write(line)
        self._file.write(b"\n")
        self._ends.append(self._ends[-1] + len(line) + 1)
        self._prefixes.append(prefix)

    def shards(self, *, sort: bool) -> Iterator[list[int]]:
        """Yield the lines of each shard, sorted by their prefixes if ``sort`` is set."""
        order: Sequence[int] = range(len(self))
        if sort:
            order = sorted(order, key=self._prefixes.__getitem__)
        shard, size = list[int](), 0
        for line in order:
            length = self._ends[line + 1] - self._ends[line]
            if shard and (len(shard) == LINES_MAX or size + length > INPUT_BYTES_MAX):
                yield shard
                shard, size = [], 0
            shard.append(line)
            size += length
        if shard:
            yield shard

    def read(self, lines: Sequence[int]) -> bytes:
        """Return some lines, each with its line break."""
        return b"".join(map(self._line, lines))

    def _line(self, line: int) -> bytes:
        self._file.seek(self._ends[line])
        return self._file.read(self._ends[line + 1] - self._ends[line])
