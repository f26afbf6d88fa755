"""Reads an answer from the store and keeps its task's row as last read."""

from __future__ import annotations

from functools import partial
from typing import Final

from inferline.background import Backoff
from inferline.errors import ProviderFault, Unavailable
from inferline.gateway.answer.contract import Contract
from inferline.gateway.answer.reader import Reader
from inferline.gateway.answer.strikes import strike
from inferline.gateway.parts import GatewayParts
from inferline.gateway.polling import PollBackoff
from inferline.streams.pacing import interval
from inferline.tasks.store import TaskRead, Wanted
from inferline.tasks.task import Task

#: Failed reads in a row after which the client gets the error.
READS_FAILED_MAX: Final = 5


class AnswerReads:
    """The reads of an answer, each checked against its contract."""

    def __init__(self, parts: GatewayParts, task: Task, *, streamed: bool, joined: bool) -> None:
        self.reader = Reader(task.ref, streamed=streamed)
        self.contract = Contract(parts.settings, task)
        #: When the last bytes, or the end, came; by the parts' clock, seconds.
        self.changed_at = parts.clock.monotonic()
        self._submitted = task
        self._joined = joined
        self._parts = parts
        self._backoff = PollBackoff(parts.settings, streamed=streamed)

    @property
    def task(self) -> Task:
        """Return the task's row as last read; before the first read, as it was submitted."""
        return self.reader.task or self._submitted

    @property
    def interval(self) -> float:
        """Return the time from the last chunk to the next, seconds."""
        return interval(self.reader.seq, self._parts.settings.flush_seconds)

    async def read(self, wanted: Wanted, until: float) -> TaskRead:
        """
        Return the next change of ``wanted``, or at the moment ``until`` what the store has then.

        Raises Unavailable after several failed reads.
        """
        poller, clock = self._parts.watch, self._parts.clock
        seen, pause, at_once, failed = self.task, self._pause, self.reader.behind, 0
        while True:
            seconds = until - clock.monotonic()
            try:
                return await poller.next_change(
                    wanted, seen, pause, at_once=at_once, seconds=seconds
                )
            except Unavailable:
                failed += 1
                if failed == READS_FAILED_MAX:
                    raise
            longer = Backoff(self._parts.settings.poll_seconds_max).seconds(failed - 1)
            at_once, pause = False, partial(float, longer)

    def take(self, wanted: Wanted, read: TaskRead) -> list[bytes]:
        """Return the new bytes in a read. Raises ProviderFault, or the task's error."""
        self.contract.check(read)
        was_live = not self.task.state.terminal
        pieces = self.reader.take(wanted, read)
        self.contract.count(pieces, self._parts.store.now_ms())
        if pieces or (was_live and self.task.state.terminal):
            self.changed_at = self._parts.clock.monotonic()
        return pieces

    async def strike(self, fault: ProviderFault) -> None:
        """Count a breach, unless another reader of the same answer counts it."""
        if not self._joined:
            await strike(self._parts, self._submitted, self.contract.suspect, fault.breach)

    def _pause(self) -> float:
        waited = self._parts.clock.monotonic() - self.changed_at
        return self._backoff.pause(waited, self.interval if self.reader.flowing else None)
