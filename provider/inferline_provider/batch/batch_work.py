"""The part of a provider that runs batches: its pieces, joined."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from inferline.files.objects import ObjectStore
from inferline.tasks.task import Tier
from inferline_provider.backend.slots import Slots
from inferline_provider.batch.batch_context import BatchContext
from inferline_provider.batch.feed import LineFeed
from inferline_provider.batch.line_server import BackendLines
from inferline_provider.batch.poller import ShardPoller
from inferline_provider.batch.room import LineRoom
from inferline_provider.batch.runner import ShardRunner
from inferline_provider.serve.attempt_context import AttemptContext
from inferline_provider.serve.leases import Leases

#: A shard's lease, in leases of requests: nobody waits for a shard, and renewals cost calls.
LEASE_TIMES: Final = 4


class BatchWork:
    """The batches of a provider: lines run in slots that requests leave free."""

    def __init__(
        self,
        context: AttemptContext,
        objects: ObjectStore,
        slots: Slots,
        on_claim: Callable[[str], None],
        *,
        fill_share: float,
        poll_seconds: int,
    ) -> None:
        """
        Use no more than `fill_share` of the slots while requests run.

        Call `on_claim` with the model of each claimed shard.
        """
        terms, clock, breakers = context.terms, context.clock, context.diagnosis.breakers
        seconds = LEASE_TIMES * terms.lease_seconds, terms.unread_task_seconds, terms.cancel_seconds
        self._leases = Leases(context.store, context.queue, clock, *seconds)
        lines = BackendLines(context)
        self.feed = LineFeed(LineRoom(slots, clock, fill_share), breakers, clock, lines)
        slots.on_requests = self.feed.requests_changed
        shards = BatchContext(
            attempts=context,
            leases=self._leases,
            objects=objects,
            slots=slots,
            feed=self.feed,
            lines=lines,
        )
        self._runner = ShardRunner(shards, on_claim)
        self._poller = ShardPoller(
            *(context.queue, slots, self.feed, self._runner),
            *(clock, context.failed_tasks, breakers),
            poll_seconds=poll_seconds,
            visibility_timeout_seconds=self._leases.visibility_timeout_seconds,
        )
        self.feed.on_begun = self._poller.poke

    def arrange(self, queues: Mapping[str, Mapping[Tier, str]]) -> None:
        """Poll the batch queues among these, by model and tier, from now on."""
        self._poller.arrange(queues)

    def set_open(self, is_open: bool) -> None:
        """Begin lines and take shards, or stop with that."""
        self.feed.set_open(is_open)

    def parts(self) -> list[Coroutine[Any, Any, None]]:
        """Return what is to run for ever."""
        return [
            self.feed.run(),
            self._poller.run(),
            self._leases.renewing(),
            self._leases.fencing(),
        ]

    async def drain(self, seconds: float) -> None:
        """Begin nothing more, and wait up to `seconds` for the lines at the backend."""
        self._runner.drain()
        await asyncio.gather(self._runner.wait(seconds), self._poller.drain(seconds))

    async def stop(self, seconds: float) -> bool:
        """Hand every shard back; False if that takes longer than `seconds`."""
        self._runner.stop()
        return await self._runner.wait(seconds)
