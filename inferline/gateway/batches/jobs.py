"""The work on batches in the background of a gateway that runs as a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Final

from inferline.background import background
from inferline.batches.lifecycle import try_to_advance
from inferline.batches.parts import BatchParts
from inferline.errors import InferLineError
from inferline.gateway.parts import GatewayParts

log = logging.getLogger(__name__)

#: Batches that one gateway works on at the same time: each validation takes up to 32 MiB.
JOBS_MAX: Final = 2
#: Seconds between two looks at all batches, where no sweep looks at them: while there are some, and
#: while there is none.
CHECK_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 5.0


class BatchJobs:
    """Work on batches that begins at once, and periodic work where no sweep does it."""

    def __init__(self, parts: GatewayParts) -> None:
        names = [each.name for each in fields(BatchParts)]
        self.parts = BatchParts(**{name: getattr(parts, name) for name in names})
        self._checks = parts.emulated
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(JOBS_MAX)
        self._runs = False

    def begin(self, tenant: str, batch_id: str, *, have_ended: bool = False) -> None:
        """
        Do what a batch needs, in the background; nothing on Lambda, where the sweep does it.

        ``have_ended``: all of its shards were just seen to have ended.
        """
        if not self._runs or batch_id in self._jobs:
            return
        job = asyncio.create_task(self._advance(tenant, batch_id, have_ended=have_ended))
        self._jobs[batch_id] = job
        job.add_done_callback(lambda _: self._jobs.pop(batch_id))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work in the background while the block lasts."""
        self._runs = True
        try:
            async with background(self._check()):
                yield
        finally:
            self._runs = False
            jobs = list(self._jobs.values())
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _advance(self, tenant: str, batch_id: str, *, have_ended: bool) -> None:
        async with self._room:
            await try_to_advance(self.parts, tenant, batch_id, have_ended=have_ended)

    async def _check(self) -> None:
        while self._checks:
            live: list[tuple[str, str]] = []
            try:
                live = await self.parts.batches.live_batches()
                for tenant, batch_id in live:
                    self.begin(tenant, batch_id)
            except InferLineError as error:
                log.warning("could not look after batches: %s", error.code)
            await self.parts.clock.sleep(CHECK_SECONDS if live else IDLE_SECONDS)
