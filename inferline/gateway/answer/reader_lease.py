"""Reader lease: while a client waits, the task's row says that a gateway reads its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from inferline.errors import Unavailable
from inferline.gateway.parts import GatewayParts
from inferline.tasks.task import Task


class ReaderLease:
    """
    A reader lease that is renewed at half of its length while its context is open.

    An answer that comes sooner costs no write. While another reader holds the lease it is not
    renewed; once that reader's lease has lapsed, it is taken back.
    """

    def __init__(self, parts: GatewayParts, reader: str, seen: Callable[[], Task]) -> None:
        """``seen`` gives the task's row as last read."""
        self._parts = parts
        self._reader = reader
        self._seen = seen
        self._renewal: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._arm()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._timer.cancel()

    async def end(self) -> None:
        """Release the lease, so that the next reader need not wait until it lapses."""
        self._timer.cancel()
        if self._renewal is not None:
            await asyncio.wait({self._renewal})
        await self._hold(0)

    def _arm(self) -> None:
        seconds = self._parts.settings.reader_seconds / 2
        self._timer = asyncio.get_running_loop().call_later(seconds, self._due)

    def _due(self) -> None:
        self._arm()
        # In the background: no client waits for it. The reference keeps it from being collected.
        self._renewal = asyncio.get_running_loop().create_task(
            self._hold(self._parts.settings.reader_seconds)
        )

    async def _hold(self, seconds: float) -> None:
        task, store = self._seen(), self._parts.store
        is_foreign = task.reader != self._reader and task.reader_ms >= store.now_ms()
        if task.state.terminal or is_foreign:
            return
        with suppress(Unavailable):  # The next renewal may succeed: half of the lease is left.
            await store.renew_reader_lease(task, self._reader, seconds)
