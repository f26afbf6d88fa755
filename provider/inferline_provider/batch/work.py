"""The lines of a shard that are to do: which may begin next, and which only by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from inferline.tasks.task import Task
from inferline_provider.batch.line_run import LineRun
from inferline_provider.batch.lines import Line, LineResult
from inferline_provider.batch.progress import ShardProgress

#: A line that was begun in so many lost attempts runs alone, so that no other is blamed.
ALONE_LOSSES: Final = 2
#: A line that was begun in so many lost attempts is given up.
LOSSES_MAX: Final = 3
#: Results that wait to be written, bytes; with more no other line of the shard begins.
PENDING_BYTES_MAX: Final = 32 * 1024 * 1024


class ShardWork:
    """
    The lines of one shard on their way to results. `on_change` is called after each step.

    After a lost attempt it is careful: a line begins only once the task's row says so, because it
    may end this process.
    """

    def __init__(
        self,
        task: Task,
        lines: Sequence[Line],
        progress: ShardProgress,
        on_change: Callable[[], None],
        *,
        is_careful: bool,
    ) -> None:
        self.task = task
        self.progress = progress
        self._on_change = on_change
        self._is_careful = is_careful
        undone = set(progress.undone)
        #: The lines that wait, in order.
        self.waiting = [LineRun(line, task, self) for line in lines if line.number in undone]
        #: Those that wait and are in the row as begun, if that matters.
        self._announced: set[int] = set()
        self.running: set[LineRun] = set()
        self.suspended: set[LineRun] = set()

    @property
    def is_done(self) -> bool:
        """Return True if every line has a result."""
        return not (self.waiting or self.running or self.suspended)

    @property
    def is_stuck(self) -> bool:
        """Return True if no line may begin before more are announced."""
        return self._is_careful and not self._announced and bool(self._candidates(1))

    @property
    def has_only_suspects(self) -> bool:
        """Return True if all that is left are lines to be run alone."""
        others = self.running or self.suspended or not self.waiting
        return not others and all(self.is_suspect(run) for run in self.waiting)

    def is_suspect(self, run: LineRun) -> bool:
        """Say whether a line may have ended its backend or provider, so that it runs alone."""
        return self.progress.losses[run.number] >= ALONE_LOSSES

    def is_given_up(self, run: LineRun) -> bool:
        """Say whether a line was lost too often."""
        return self.progress.losses[run.number] >= LOSSES_MAX

    def next_line(self, now: float, *, alone: bool = False) -> LineRun | None:
        """Return the next line that may begin; a suspect only, or none, by `alone`."""
        if self.progress.bytes > PENDING_BYTES_MAX:
            return None
        ready = (run for run in self.waiting if run.due_at <= now and self._is_announced(run))
        return next((run for run in ready if self.is_suspect(run) == alone), None)

    def to_announce(self, count: int) -> list[int]:
        """Return the lines to write as begun: those that are, and up to `count` to come."""
        begun = {run.number for run in self.running}
        if not self._is_careful:
            return sorted(begun)
        begun |= {run.number for run in self.suspended} | self._announced
        return sorted(begun if self._announced else begun.union(self._candidates(count)))

    def announced(self, numbers: Iterable[int]) -> None:
        """Note that the row has these lines as begun: those that wait may begin."""
        waiting = {run.number for run in self.waiting}
        self._announced = waiting.intersection(numbers)

    def _candidates(self, count: int) -> list[int]:
        """Return up to `count` lines that may begin next; a suspect only by itself."""
        ordinary = [run.number for run in self.waiting if not self.is_suspect(run)]
        if ordinary or self.running or self.suspended:
            return ordinary[:count]
        return [run.number for run in self.waiting[:1]]

    def begin(self, run: LineRun) -> None:
        """Note that a line is at the backend."""
        if run in self.suspended:
            self.suspended.remove(run)
        else:
            self.waiting.remove(run)
        self._announced.discard(run.number)
        self.running.add(run)

    def suspend(self, run: LineRun) -> None:
        """Note that a line made room for a request."""
        self.running.remove(run)
        self.suspended.add(run)

    def put_back(self, run: LineRun) -> None:
        """Let a line wait to be tried again."""
        self.running.discard(run)
        self.suspended.discard(run)
        self.waiting.append(run)
        self._on_change()

    def end(self, run: LineRun, result: LineResult) -> None:
        """Note a line's result."""
        self.running.discard(run)
        if run in self.waiting:
            self.waiting.remove(run)
        self.progress.add(result)
        self._on_change()

    def _is_announced(self, run: LineRun) -> bool:
        return not self._is_careful or run.number in self._announced
