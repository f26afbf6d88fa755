"""
Smoothing: spreads the events of a chunk over the time until the next chunk, so that a client sees
text flow though it is written to the store in a few large pieces.
"""

from __future__ import annotations

from collections import deque
from math import ceil, inf

from inferline.clock import Clock
from inferline.gateway.answer.reads import AnswerReads

_END_OF_EVENT = b"\n\n"


class Smoother:
    """
    A queue of events with due times. No event is held longer than its chunk took to gather.

    ``step_seconds`` is the time between two pieces; a chunk that took no longer to gather goes out
    at once. All times are in seconds, by the same clock.
    """

    def __init__(self, step_seconds: float) -> None:
        self._step = step_seconds
        #: Due times and pieces, in order.
        self._pieces: deque[tuple[float, bytes]] = deque()

    @property
    def next_at(self) -> float:
        """Return the time at which the next piece is due; infinite if none waits."""
        return self._pieces[0][0] if self._pieces else inf

    def put(self, chunk: bytes, seconds: float, now: float) -> bytes:
        """
        Spread a chunk over the next ``seconds``.

        Returns the bytes to send now: the pieces that still waited, which are late, and the chunk's
        first piece.
        """
        late = self.rest()
        count = ceil(seconds / self._step - 1e-9)
        if count <= 1:
            return late + chunk
        events = [event + _END_OF_EVENT for event in chunk.split(_END_OF_EVENT)]
        # The last event has no end: it is empty, unless a large event was cut in two.
        last = events.pop()[: -len(_END_OF_EVENT)]
        if last or not events:
            events.append(last)
        first, *others = _parts(events, count)
        self._pieces.extend((now + self._step * n, part) for n, part in others)
        return late + first[1]

    def take(self, now: float) -> bytes:
        """Remove and return the pieces that are due."""
        taken = []
        while self._pieces and self._pieces[0][0] <= now:
            taken.append(self._pieces.popleft()[1])
        return b"".join(taken)

    def rest(self) -> bytes:
        """Remove and return all pieces that wait."""
        return self.take(inf) if self._pieces else b""


class Smoothing:
    """The stage that smooths: passes on the first piece of a chunk; the others are due later."""

    def __init__(self, smoother: Smoother, reads: AnswerReads, clock: Clock) -> None:
        self._smoother = smoother
        self._reads = reads
        self._clock = clock

    def feed(self, pieces: list[bytes]) -> list[bytes]:
        """Return the bytes to send now: all of them if more can be read already."""
        if not pieces:
            return pieces
        reader = self._reads.reader
        if reader.ended or reader.behind or len(pieces) > 1:
            return [self._smoother.rest(), *pieces]
        return [self._smoother.put(pieces[0], self._reads.interval, self._clock.monotonic())]

    def end(self) -> list[bytes]:
        """Return all pieces that wait."""
        return [self._smoother.rest()]


def _parts(events: list[bytes], count: int) -> list[tuple[int, bytes]]:
    """Split events into at most ``count`` parts of equal length, each with its position."""
    parts: dict[int, list[bytes]] = {}
    for number, event in enumerate(events):
        parts.setdefault(number * count // len(events), []).append(event)
    return [(position, b"".join(part)) for position, part in parts.items()]
