"""Transfers an answer: reads, stages, sender, and the checks while no bytes come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

from inferline.errors import DeadlineExceeded, GatewayStopping, ProviderFault
from inferline.gateway.answer import wait_limits
from inferline.gateway.answer.keep_alive import KeepAlive
from inferline.gateway.answer.reads import AnswerReads
from inferline.gateway.answer.sender import EVENT_STREAM, OK, Sender
from inferline.gateway.answer.stages.events import only_event
from inferline.gateway.answer.stages.model_name import Naming
from inferline.gateway.answer.stages.pipeline import Pipeline, StreamStage
from inferline.gateway.answer.stages.smoothing import Smoother, Smoothing
from inferline.gateway.parts import GatewayParts
from inferline.streams.sse import Rest
from inferline.tasks.store import TaskRead, Wanted
from inferline.tasks.task import Task

#: Time between two checks of limits and keep-alive; reads are far more frequent.
CHECK_SECONDS: Final = 0.1

Leave = Callable[[], Awaitable[None]]


class AnswerTransfer:
    """The transfer of an answer's bytes: resume point, model name, smoothing, sender."""

    def __init__(
        self,
        parts: GatewayParts,
        task: Task,
        reads: AnswerReads,
        sender: Sender,
        *,
        streamed: bool,
        after: int,
        first_seconds: float,
        hand_on_at: float,
    ) -> None:
        self._parts, self._task, self._reads, self._sender = parts, task, reads, sender
        self._clock = parts.clock
        self._streamed = streamed
        self._first_seconds = first_seconds
        requested = parts.settings.response_model == "requested"
        self._naming = Naming(task.model) if requested else None
        self._smoother = Smoother(parts.settings.smooth_seconds)
        self._pipeline = Pipeline(self._stages(after))
        self._begun = self._clock.monotonic()
        self._check_at = self._begun + CHECK_SECONDS
        self._limits = wait_limits.WaitLimits(
            parts.store, parts.catalogue, parts.settings.no_provider_seconds, self._begun
        )
        self._keep_alive = KeepAlive(parts.settings, task.path, self._begun, streamed=streamed)
        # Later than the deadline's own check: a deadline at the same moment is reported as such.
        self._hand_on_at = hand_on_at + 2 * wait_limits.DEADLINE_GRACE_SECONDS

    def _stages(self, after: int) -> list[StreamStage]:
        """Return the stages that this answer needs: any other would cost each chunk time."""
        settings = self._parts.settings
        stages: list[StreamStage] = []
        if after:
            stages.append(Rest(after))
        if self._naming is not None:
            stages.append(self._naming)
        if settings.flush_seconds > settings.smooth_seconds:  # Else a chunk is a single step.
            stages.append(Smoothing(self._smoother, self._reads, self._clock))
        return stages

    async def run(self, leave: Leave) -> None:
        """Send a stream's pieces as they come, and any other answer when it is whole."""
        reader, held = self._reads.reader, list[bytes]()
        while not reader.ended:
            held += await self._next_pieces()
            if self._flows:
                out, held = self._pipeline.feed(held), []
                if reader.ended:
                    out += self._pipeline.end()
                    await self._sender.body(b"".join(out), more=False)
                    return
                if out:
                    await self._sender.body(b"".join(out), more=True)
                    continue
            is_due = self._clock.monotonic() >= self._check_at
            if is_due and not reader.behind and not reader.ended:  # Nobody waits for it any more.
                await self._check(leave)
        await self._send_whole(b"".join(held))

    def unsent(self) -> bytes:
        """Remove and return the bytes that smoothing holds back."""
        return self._smoother.rest()

    @property
    def _flows(self) -> bool:
        """Return True once the answer is known to be a stream."""
        head = self._reads.reader.head
        return self._streamed and head is not None and head.content_type.startswith(EVENT_STREAM)

    async def _send_whole(self, body: bytes) -> None:
        if self._naming is not None:
            body = self._naming.whole(body)
        head, sender = self._reads.reader.head, self._sender
        assert head is not None  # The answer is whole.
        if sender.started and self._streamed:  # Then this is its only event.
            body = only_event(self._task.path, head, body)
        elif sender.started and head.status != OK:
            sender.break_off(f"backend_{head.status}")
            return
        await sender.body(body, more=False)

    async def _next_pieces(self) -> list[bytes]:
        """Read the next bytes. Raises GatewayStopping, Unavailable or the task's error."""
        if self._parts.closing.is_set() or self._clock.monotonic() >= self._hand_on_at:
            raise GatewayStopping
        wanted = self._reads.reader.wanted()
        pieces = self._reads.take(wanted, await self._read(wanted))
        if self._reads.reader.ended:  # Before the last piece, with which the call may end.
            try:
                self._reads.contract.check_usage(self._reads.task)
            except ProviderFault as error:
                await self._reads.strike(error)
        return pieces

    async def _read(self, wanted: Wanted) -> TaskRead:
        """Read; meanwhile, send pieces of the last chunk when they are due."""
        clock, smoother = self._clock, self._smoother
        if smoother.next_at == inf:
            return await self._reads.read(wanted, self._check_at)
        read = asyncio.ensure_future(self._reads.read(wanted, self._check_at))
        try:
            while smoother.next_at < inf:
                left = max(0.0, smoother.next_at - clock.monotonic())
                if (await asyncio.wait({read}, timeout=left))[0]:
                    break
                if piece := smoother.take(clock.monotonic()):
                    await self._sender.body(piece, more=True)
            return await read
        finally:
            read.cancel()

    async def _check(self, leave: Leave) -> None:
        """Check the limits and keep the connection open. Raises the error that ends the wait."""
        now, task, changed_at = self._clock.monotonic(), self._reads.task, self._reads.changed_at
        self._check_at = now + CHECK_SECONDS
        await self._limits.check_deadline(task)
        if not self._sender.started and now - self._begun > self._first_seconds:
            await leave()
            raise DeadlineExceeded
        self._reads.contract.check_seen(task, now - changed_at)
        await self._limits.check_served(now, task)
        await self._keep_alive.send_if_due(self._sender, now, changed_at)
