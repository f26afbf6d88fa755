"""The line: puts a request on its model's queue, or says at once why it can't be."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from dataclasses import dataclass
from math import inf

from inferline.bodies import BodyStore, body_key
from inferline.caller import ANYONE, Caller
from inferline.clock import Clock
from inferline.errors import InferLineError, QueueFull, Unavailable
from inferline.gateway.catalogue import Catalogue, drain_seconds
from inferline.gateway.watch import Watch
from inferline.ledger import NO_LEDGER, Ledger
from inferline.payload import Payload
from inferline.queue import Message, TaskQueue
from inferline.registry import Model
from inferline.settings import Settings
from inferline.store import TaskStore
from inferline.task import Task, TaskRef, Tier
from inferline.trace import NO_TRACER, Tracer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What the gateway works on."""

    settings: Settings
    clock: Clock
    store: TaskStore
    queue: TaskQueue
    bodies: BodyStore
    catalogue: Catalogue
    watch: Watch
    ledger: Ledger = NO_LEDGER
    tracer: Tracer = NO_TRACER

    async def submit(
        self,
        task_id: str,
        path: str,
        payload: Payload,
        body: bytes,
        *,
        caller: Caller = ANYONE,
        seconds_max: float = inf,
        traceparent: str = "",
    ) -> Task:
        """
        Put a request on the belt: the row first, then the message, which only says "look".

        The task ends within ``seconds_max``, or sooner if the settings say so. Raises
        ModelNotFound, QueueFull or Unavailable; then there is no task that anyone would run.
        """
        model = await self.catalogue.model(payload.model)
        tier = payload.tier
        seconds = min(seconds_max, self.settings.request_seconds_max)
        await self._admit(model, tier, seconds)
        now = self.store.now_ms()
        deadline = now + int(seconds * 1000)
        task = Task(
            ref=TaskRef(model.slug, task_id),
            model=model.id,
            tier=tier,
            tenant=caller.tenant,
            path=path,
            body_sha256=hashlib.sha256(body).hexdigest(),
            created_ms=now,
            deadline_ms=deadline,
            attempt_limit=self.settings.attempts_max,
            ttl=deadline // 1000 + self.settings.task_seconds_kept,
            traceparent=traceparent,
        )
        message = await self._message(task.ref, body)
        await self.store.submit(task)
        try:
            await self.queue.send(model.queues[tier], message, task.tenant)
        except InferLineError:
            with suppress(InferLineError):
                await self.store.expire(task.ref)
            raise
        return task

    async def abandon(self, task: Task) -> None:
        """Cancel a task whose client is gone. What it had claimed is free within a second."""
        try:
            await self.store.cancel(task.ref)
        except Unavailable:
            log.warning("could not cancel a task; its deadline will", extra={"task": task.ref.id})

    async def _admit(self, model: Model, tier: Tier, seconds: float) -> None:
        """Refuse what the queue could not answer within ``seconds``. Raises QueueFull."""
        depth = self.catalogue.depth(model.queues[tier])
        if depth is None or depth.waiting == 0:
            return
        snapshot = await self.catalogue.snapshot()
        drain = drain_seconds(depth.waiting, snapshot, model.id)
        too_late = drain is not None and drain > seconds
        if too_late or depth.waiting >= self.settings.queue_depth_max:
            raise QueueFull(
                f"{depth.waiting} requests already wait for the model {model.id!r}. "
                "Try again later.",
                retry_after_seconds=int(min(60, max(1, (drain or 10) / 10))),
            )

    async def _message(self, ref: TaskRef, body: bytes) -> Message:
        inline = Message(ref=ref, body=body)
        if inline.fits(self.settings.inline_bytes_max):
            return inline
        key = body_key(ref)
        await self.bodies.put(key, body)
        return Message(ref=ref, body_key=key)
