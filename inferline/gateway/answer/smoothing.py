"""
Smoothing: the events of a chunk that gathered for long go out over the time until the next, so that
a client sees text flow that was written to the store in few large pieces.
"""

from __future__ import annotations

from collections import deque
from math import ceil, inf

from inferline.clock import Clock
from inferline.gateway.answer.reads import AnswerReads

_END_OF_EVENT = b"\n\n"


class Smoother:
    """
    Events that wait for their time. Nothing is held back longer than its chunk took to gather.

    ``step_seconds`` is the time between two pieces; what gathered for no longer goes out at once.
    Times are of one clock, seconds.
    """

    def __init__(self, step_seconds: float) -> None:
        self._step = step_seconds
        #: Pieces and when they are due, in order.
        self._pieces: deque[tuple[float, bytes]] = deque()

    @property
    def next_at(self) -> float:
        """When the next piece is due; infinite when nothing waits."""
        return self._pieces[0][0] if self._pieces else inf

    def put(self, chunk: bytes, seconds: float, now: float) -> bytes:
        """
        Spread a chunk over the next ``seconds``. Returns what is to go out now: all that still
        waited, for it is late, and the chunk's first piece.
        """
        late = self.rest()
        count = ceil(seconds / self._step - 1e-9)
        if count <= 1:
            return late + chunk
        events = [event + _END_OF_EVENT for event in chunk.split(_END_OF_EVENT)]
        # The last has no end: it is empty, unless a large event was cut.
        last = events.pop()[: -len(_END_OF_EVENT)]
        if last or not events:
            events.append(last)
        first, *others = _parts(events, count)
        self._pieces.extend((now + self._step * n, part) for n, part in others)
        return late + first[1]

    def take(self, now: float) -> bytes:
        """Take what is due by now."""
        taken = []
        while self._pieces and self._pieces[0][0] <= now:
            taken.append(self._pieces.popleft()[1])
        return b"".join(taken)

    def rest(self) -> bytes:
        """Take all that waits."""
        return self.take(inf)


class Smoothing:
    """The stage that smooths: the first piece of a chunk goes on, the others are due later."""

    def __init__(self, smoother: Smoother, reads: AnswerReads, clock: Clock) -> None:
        self._smoother = smoother
        self._reads = reads
        self._clock = clock

    def feed(self, pieces: list[bytes]) -> list[bytes]:
        """Return what goes out at once: all of it if more is there to read already."""
        if not pieces:
            return pieces
        data, reader = b"".join(pieces), self._reads.reader
        if reader.ended or reader.behind or len(pieces) > 1:
            return [self._smoother.rest() + data]
        return [self._smoother.put(data, self._reads.interval, self._clock.monotonic())]

    def end(self) -> list[bytes]:
        """Return all that waits."""
        return [self._smoother.rest()]


def _parts(events: list[bytes], count: int) -> list[tuple[int, bytes]]:
    """Split events into at most ``count`` parts of equal length, each with its place."""
    parts: dict[int, list[bytes]] = {}
    for number, event in enumerate(events):
        parts.setdefault(number * count // len(events), []).append(event)
    return [(place, b"".join(part)) for place, part in parts.items()]
