"""The line: puts a request on its model's queue, or says at once why it can't be."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from math import inf

from inferline.accounts.caller import ANYONE, Caller
from inferline.clock import Clock
from inferline.errors import InferLineError, NotPermitted, ProviderFault, Unavailable
from inferline.fleet.registry import Model
from inferline.gateway.catalogue import Catalogue
from inferline.gateway.in_flight import Waiting
from inferline.gateway.polling import SharedPoller
from inferline.gateway.submit.admission import Admission
from inferline.settings import Settings
from inferline.tasks.bodies import BodyStore, body_key
from inferline.tasks.queue import Message, TaskQueue
from inferline.tasks.store import Binding, TaskStore
from inferline.tasks.task import Task, TaskRef, Tier
from inferline.telemetry.trace import NO_TRACER, Tracer
from inferline.usage.ledger import NO_LEDGER, Ledger
from inferline.validation.forwarding import CONTENT_TYPE, NOTHING, Forwarded
from inferline.validation.guard import Guard
from inferline.validation.payload import Payload

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
    watch: SharedPoller
    ledger: Ledger = NO_LEDGER
    tracer: Tracer = NO_TRACER
    waiting: Waiting = field(default_factory=Waiting)
    #: Set once this process ends and can't wait for what is under way.
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    admission: Admission = field(init=False)
    guard: Guard = field(init=False)
    #: This process's, among all gateways.
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    _readers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        """Have one door: what it lets in it remembers."""
        admission = Admission(self.catalogue, self.settings, self.clock)
        object.__setattr__(self, "admission", admission)
        object.__setattr__(self, "guard", Guard.of(self.settings))

    async def draft(
        self,
        task_id: str,
        path: str,
        payload: Payload,
        body: bytes,
        *,
        caller: Caller = ANYONE,
        seconds_max: float = inf,
        traceparent: str = "",
        forwarded: Forwarded = NOTHING,
    ) -> Task:
        """
        The task that a request would be; it is nowhere yet.

        Raises ModelNotFound, NotPermitted for a tier that is not the caller's, or Unavailable.

        Its id is ``task_id`` and the model's mark. It is to end within ``seconds_max``, or sooner
        if the settings say so.
        """
        model = await self.catalogue.asked(payload.model, caller)
        if payload.tier not in caller.tiers:
            raise _other_tier(payload.tier, caller)
        now = self.store.now_ms()
        seconds = min(seconds_max, self.settings.request_seconds_max)
        deadline = now + int(seconds * 1000)
        return Task(
            ref=TaskRef(model.slug, task_id + model.hash),
            model=payload.model,
            tier=payload.tier,
            tenant=caller.tenant,
            key_id=caller.key_id,
            path=path,
            query=forwarded.query,
            request_headers=dict(forwarded.headers),
            body_sha256=hashlib.sha256(body).hexdigest(),
            identity=forwarded.identity(body),
            created_ms=now,
            deadline_ms=deadline,
            attempt_limit=self.settings.attempts_max,
            ttl=deadline // 1000 + self.settings.task_seconds_kept,
            traceparent=traceparent,
            reader=self.new_reader(),
            reader_ms=now + round(self.settings.reader_seconds * 1000),
        )

    async def submit(self, task: Task, body: bytes, *, tenant_open: int = 0) -> None:
        """
        Put a request on the belt: the row first, then the message, which only says "look".

        ``tenant_open`` of its tenant are open, this one included; 0 where nobody counts. Raises
        QueueFull or Unavailable; then there is no task that anyone would run.
        """
        queue, message = await self._admitted(task, body, tenant_open)
        await self.store.submit(task)
        await self._send(task, queue, message)

    async def submit_once(
        self,
        task: Task,
        body: bytes,
        key: str,
        request: str,
        instead_of: str,
        *,
        tenant_open: int = 0,
    ) -> Binding | None:
        """The same, unless ``key`` is bound to another task but ``instead_of``; then what to."""
        queue, message = await self._admitted(task, body, tenant_open)
        bound = await self.store.submit_once(task, key, request, instead_of)
        if bound is None:
            await self._send(task, queue, message)
        return bound

    async def send_again(self, task: Task, body: bytes, *, tenant_open: int = 0) -> None:
        """
        Send the message of a task that may be without; a second one does no harm.

        It goes where a new request's would: to send one twice is no way past those that wait.
        """
        model = await self.catalogue.model(task.registry_name)
        queue = model.queues[self._lane(model, task, tenant_open)]
        await self.queue.send(queue, await self._message(task, body), task.tenant)

    async def abandon(self, task: Task) -> None:
        """
        Cancel a task whose client is gone. What it had claimed is free within a second.

        Nothing happens when somebody else reads it by now.
        """
        try:
            await self.store.cancel(task.ref, task.reader)
        except (ProviderFault, Unavailable):
            log.warning("could not cancel a task; its deadline will", extra={"task": task.ref.id})

    async def strike(self, task: Task, suspect: str, breach: str) -> None:
        """
        Count a breach against who holds a task. Nothing depends on it: no store, no strike.

        It costs a write or two, for an answer that is none.
        """
        limit = self.settings.strikes_max
        told = {"task": task.ref.id, "provider": suspect, "breach": breach}
        if not suspect or not limit:
            log.warning("a provider wrote what is no answer", extra=told)
            return
        try:
            strikes = await self.catalogue.registry.strike(suspect, task.model, breach, limit)
        except Unavailable:
            log.warning("a breach could not be counted", extra=told)
        else:
            log.warning("a provider wrote what is no answer", extra={**told, "strikes": strikes})

    def new_reader(self) -> str:
        """Who reads an answer here, in a word that nobody else uses."""
        return f"{self.name}-{next(self._readers):x}"

    def reads(self, task: Task) -> bool:
        """Whether this very process is the task's reader, or was the last."""
        return task.reader.startswith(f"{self.name}-")

    async def _admitted(self, task: Task, body: bytes, tenant_open: int) -> tuple[str, Message]:
        """
        The message of a task that may be submitted, and its queue.

        Raises QueueFull or Unavailable.
        """
        model = await self.catalogue.model(task.registry_name)
        seconds = (task.deadline_ms - task.created_ms) / 1000
        lane = self._lane(model, task, tenant_open)
        await self.admission.admit(model, lane, seconds)
        return model.queues[lane], await self._message(task, body)

    def _lane(self, model: Model, task: Task, tenant_open: int) -> Tier:
        return self.admission.lane(model, task.tier, task.tenant, tenant_open)

    async def _send(self, task: Task, queue: str, message: Message) -> None:
        try:
            await self.queue.send(queue, message, task.tenant)
        except InferLineError:
            with suppress(InferLineError):
                await self.store.expire(task.ref)
            raise

    async def _message(self, task: Task, body: bytes) -> Message:
        is_json = bool(body) and CONTENT_TYPE not in task.request_headers
        inline = Message(ref=task.ref, body=body, is_json=is_json)
        if inline.fits(self.settings.inline_bytes_max):
            return inline
        key = body_key(task.ref)
        await self.bodies.put(key, body)
        return Message(ref=task.ref, body_key=key, is_json=is_json)


def _other_tier(tier: Tier, caller: Caller) -> NotPermitted:
    return NotPermitted(
        f"This key is not for the tier {tier!r} but for {', '.join(caller.tiers)}: name one in "
        "`service_tier`.",
        param="service_tier",
    )
