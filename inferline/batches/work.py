"""
The lease on a batch: one process at a time validates, cancels or finalizes it.

The lease is a date in the batch's row. Each write of its holder expects the version of the one
before, so a holder that was suspended too long writes nothing any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, Self, TypeVar

from inferline.batches.batch import Batch
from inferline.batches.parts import BatchParts
from inferline.errors import Unavailable

T = TypeVar("T")
Item = TypeVar("Item")

#: How long a lease lasts, in leases of requests, and how many times its holder renews it in that
#: time: then it learns of a cancellation.
LEASE_TIMES: Final = 2
RENEWALS: Final = 12
#: How often a release is tried while others write the row.
TRIES_MAX: Final = 5


class WorkLost(Exception):
    """The batch was changed by somebody else: whoever works on it has to stop."""


@dataclass(slots=True)
class Work:
    """One process's turn at a batch: the lease, and the row as this process last wrote it."""

    parts: BatchParts
    batch: Batch
    _renewed: float

    @classmethod
    async def begin(cls, parts: BatchParts, batch: Batch) -> Self | None:
        """Take the lease; None if another process has it, or has just changed the batch."""
        now_ms = parts.batches.now_ms()
        if batch.worker_until_ms > now_ms:
            return None
        until_ms = now_ms + _lease_ms(parts)
        taken = await parts.batches.save_batch(replace(batch, worker_until_ms=until_ms))
        return None if taken is None else cls(parts, taken, parts.clock.monotonic())

    def now_ms(self) -> int:
        """Return the store's time, milliseconds since 1970."""
        return self.parts.batches.now_ms()

    async def save(self, **changes: Any) -> None:
        """Change the batch, and renew the lease or, with the batch's end, release it."""
        changed = replace(self.batch, **changes)
        until_ms = 0 if changed.is_terminal else self.now_ms() + _lease_ms(self.parts)
        saved = await self.parts.batches.save_batch(replace(changed, worker_until_ms=until_ms))
        if saved is None:
            raise WorkLost
        self.batch, self._renewed = saved, self.parts.clock.monotonic()

    async def keep(self) -> None:
        """Renew the lease if it is time. Raises WorkLost."""
        held_ms = 1000 * (self.parts.clock.monotonic() - self._renewed)
        if held_ms >= _lease_ms(self.parts) / RENEWALS:
            await self.save()

    async def for_each(
        self, call: Callable[[Item], Awaitable[T]], items: Iterable[Item], at_once: int
    ) -> list[T]:
        """Call for each item, ``at_once`` at the same time, and keep the lease meanwhile."""
        results: list[T] = []
        rest = iter(items)
        while group := list(islice(rest, at_once)):
            await self.keep()
            results += await asyncio.gather(*map(call, group))
        return results

    async def end(self) -> None:
        """Release the lease if this process still has it; else it lapses by itself."""
        batches, row, mine = self.parts.batches, self.batch, self.batch.worker_until_ms
        with suppress(Unavailable):
            for _ in range(TRIES_MAX):
                if row.worker_until_ms != mine or row.is_terminal:
                    return
                if await batches.save_batch(replace(row, worker_until_ms=0)) is not None:
                    return
                # A cancellation leaves the lease as it is.
                row = await batches.batch(row.tenant, row.id) or replace(row, worker_until_ms=0)


def _lease_ms(parts: BatchParts) -> int:
    return round(1000 * LEASE_TIMES * parts.settings.lease_seconds)
