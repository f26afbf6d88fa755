"""The progress of an attempt at a shard: its results, and the segments that they are written in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from inferline.tasks.shard import Segment, SegmentKind, Shard
from inferline_provider.batch.lines import LineResult

_KINDS: Final[tuple[SegmentKind, ...]] = ("output", "error")


@dataclass(frozen=True, slots=True)
class Cut:
    """Results that are written together: their segments, and the shard once they are committed."""

    segments: tuple[tuple[Segment, bytes], ...]
    shard: Shard


class ShardProgress:
    """
    The results of a shard's lines that are not committed, and the shard as it is.

    Results are cut once and never again: a write that comes late has the same bytes as its repeat.
    """

    def __init__(self, shard: Shard, attempt: int, *, is_after_loss: bool) -> None:
        """Go on with a shard; `is_after_loss`: the attempt before this one was lost."""
        self._attempt = attempt
        self._seqs: Counter[SegmentKind] = Counter()
        self._pending: list[LineResult] = []
        self._cut: Cut | None = None
        losses = {int(number): times for number, times in shard.losses.items()}
        if is_after_loss:
            losses = Counter(losses) + Counter(bits(shard.begun & ~shard.done))
        #: How often each line was begun in an attempt that was lost, or broke its backend off.
        self.losses: Counter[int] = Counter(losses)
        self._shard = shard
        self.bytes = 0

    @property
    def pending(self) -> int:
        """Return how many results are not cut yet."""
        return len(self._pending)

    @property
    def undone(self) -> list[int]:
        """Return the lines without a committed result."""
        return bits(~self._shard.done & ((1 << self._shard.lines) - 1))

    def add(self, result: LineResult) -> None:
        """Add a line's result."""
        self._pending.append(result)
        self.bytes += len(result.text)

    def cut(self) -> Cut | None:
        """Return the results to commit next, the same until they are; None if there are none."""
        if self._cut is None and self._pending:
            self._cut = self._next_cut()
        return self._cut

    def at(self, begun: Iterable[int]) -> Shard:
        """Return the shard with what is cut, while so many lines are begun."""
        shard = self._shard if self._cut is None else self._cut.shard
        losses = {str(number): times for number, times in sorted(self.losses.items())}
        begun_bits = sum(1 << number for number in begun) & ~shard.done
        return replace(shard, begun=begun_bits, losses=losses)

    def committed(self) -> None:
        """Note that what is cut is committed."""
        if self._cut is not None:
            self._shard, self._cut = self._cut.shard, None
        self.bytes = sum(len(result.text) for result in self._pending)

    def _next_cut(self) -> Cut:
        results, self._pending = self._pending, []
        segments = []
        for kind in _KINDS:
            if data := b"".join(result.text for result in results if result.kind == kind):
                segments.append((Segment(kind, self._attempt, self._seqs[kind], len(data)), data))
                self._seqs[kind] += 1
        shard, usage = self._shard, Counter(self._shard.usage)
        for result in results:
            usage.update(result.usage)
        completed = sum(result.kind == "output" for result in results)
        return Cut(
            tuple(segments),
            replace(
                shard,
                done=shard.done | sum(1 << result.number for result in results),
                completed=shard.completed + completed,
                failed=shard.failed + len(results) - completed,
                segments=(*shard.segments, *(segment for segment, _ in segments)),
                usage=dict(usage),
            ),
        )


def bits(bitmap: int) -> list[int]:
    """Return the numbers of the bits that are set."""
    return [number for number in range(bitmap.bit_length()) if bitmap >> number & 1]
