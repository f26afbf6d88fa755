"""The ways to run lines beside requests: InferLine's own, and in its place what others do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from unittest.mock import patch

from bench.batches.tables import ALONE, EVICT, FIFO, HOLDBACK, OURS
from inferline_provider.batch import batch_work
from inferline_provider.batch.feed import LineFeed
from inferline_provider.batch.line_run import LineRun
from inferline_provider.batch.room import LineRoom


class KeepingRoom(LineRoom):
    """
    A room in which a line has its slot to its end: it is not free to requests.

    A slot that falls free is left to requests for a moment, as in InferLine's own, so that those
    that wait come first.
    """

    #: How many of the slots lines may have.
    part = 1.0

    @property
    def excess(self) -> int:
        """Return none: a line that runs goes on."""
        return 0

    def take(self) -> bool:
        """Take a slot for a line, if there is one."""
        return super().take() and self._slots.take(1) == 1

    def give(self) -> None:
        """Give a line's slot back."""
        self._lines -= 1
        self._slots.release()

    @property
    def _unused(self) -> int:
        return max(0, min(self._slots.free, int(self.part * self._slots.limit) - self._lines))


class HalfRoom(KeepingRoom):
    """The same of half the slots."""

    part = 0.5


class EvictingFeed(LineFeed):
    """A feed that keeps nothing of a suspended line: it begins anew."""

    def _begin(self, run: LineRun) -> None:
        run.begin_anew(folds=True)
        super()._begin(run)


@contextmanager
def _alone() -> Iterator[bool]:
    yield False


@contextmanager
def _ours() -> Iterator[bool]:
    yield True


def _with(name: str, replacement: type) -> Callable[[], AbstractContextManager[bool]]:
    """Return a context in which the provider's batches are made with something in place of it."""

    @contextmanager
    def patched() -> Iterator[bool]:
        with patch.object(batch_work, name, replacement):
            yield True

    return patched


#: Each is a context in which a provider that is made works so; it yields whether there are lines.
ARMS: dict[str, Callable[[], AbstractContextManager[bool]]] = {
    ALONE: _alone,
    FIFO: _with("LineRoom", KeepingRoom),
    HOLDBACK: _with("LineRoom", HalfRoom),
    EVICT: _with("LineFeed", EvictingFeed),
    OURS: _ours,
}
