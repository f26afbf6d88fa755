"""Submission: turns a request into a task and puts it on its model's queue, or refuses it."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf

from inferline.accounts.caller import ANYONE, Caller
from inferline.errors import InferLineError, NotPermitted
from inferline.fleet.registry import Model
from inferline.gateway.parts import GatewayParts
from inferline.gateway.submit.admission import Admission
from inferline.tasks.bodies import body_key
from inferline.tasks.queue import Message
from inferline.tasks.store import Binding
from inferline.tasks.task import Task, TaskRef, Tier
from inferline.validation.forwarding import CONTENT_TYPE, NOTHING, Forwarded
from inferline.validation.payload import Payload


@dataclass(frozen=True, slots=True)
class Submission:
    """A task to submit, with its model and its body."""

    task: Task
    model: Model
    body: bytes
    #: Open requests of its tenant, this one included; 0 where they are not counted.
    tenant_open: int = 0


class Submitter:
    """Makes submissions and sends them. A task's row is written before its message."""

    def __init__(self, parts: GatewayParts) -> None:
        self.parts = parts
        self.admission = Admission(parts.catalogue, parts.settings, parts.clock)

    async def prepare(
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
    ) -> Submission:
        """
        Return the submission of a request; nothing is written yet.

        The task's id is ``task_id`` and its model's hash. It must end within ``seconds_max``, or
        sooner if the settings say so. Raises ModelNotFound, NotPermitted for a tier that the caller
        may not use, or Unavailable.
        """
        model = await self.parts.catalogue.asked(payload.model, caller)
        if payload.tier not in caller.tiers:
            raise _tier_not_permitted(payload.tier, caller)
        settings, now = self.parts.settings, self.parts.store.now_ms()
        deadline = now + int(min(seconds_max, settings.request_seconds_max) * 1000)
        task = Task(
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
            attempt_limit=settings.attempts_max,
            ttl=deadline // 1000 + settings.task_seconds_kept,
            traceparent=traceparent,
            reader=self.parts.readers.new(),
            reader_ms=now + round(settings.reader_seconds * 1000),
        )
        return Submission(task, model, body)

    async def submit(self, submission: Submission) -> None:
        """Submit a task. Raises QueueFull or Unavailable; then no provider will run it."""
        queue, message = await self._admit(submission)
        await self.parts.store.submit(submission.task)
        await self._send(submission.task, queue, message)

    async def submit_once(
        self, submission: Submission, key: str, request: str, instead_of: str
    ) -> Binding | None:
        """
        Submit a task unless ``key`` is bound to another task than ``instead_of``.

        Returns that other task's binding, None if the task was submitted. Raises as `submit`.
        """
        queue, message = await self._admit(submission)
        task = submission.task
        bound = await self.parts.store.submit_once(task, key, request, instead_of)
        if bound is None:
            await self._send(task, queue, message)
        return bound

    async def send_again(self, submission: Submission) -> None:
        """
        Send the message of a task that may have none; a second message does no harm.

        It goes where a new request's would, so that a repeat never overtakes those that wait.
        """
        task = submission.task
        queue = submission.model.queues[self._tier_of(submission)]
        await self.parts.queue.send(queue, await self._message(submission), task.tenant)

    async def renewed(self, submission: Submission) -> Submission:
        """Return a submission that has waited, with its model of now. Raises ModelNotFound."""
        model = await self.parts.catalogue.model(submission.task.registry_name)
        return replace(submission, model=model)

    async def _admit(self, submission: Submission) -> tuple[str, Message]:
        """Return a task's queue and message. Raises QueueFull or Unavailable."""
        task, model = submission.task, submission.model
        seconds = (task.deadline_ms - task.created_ms) / 1000
        tier = self._tier_of(submission)
        await self.admission.admit(model, tier, seconds)
        return model.queues[tier], await self._message(submission)

    def _tier_of(self, submission: Submission) -> Tier:
        task = submission.task
        return self.admission.effective_tier(
            submission.model, task.tier, task.tenant, submission.tenant_open
        )

    async def _send(self, task: Task, queue: str, message: Message) -> None:
        try:
            await self.parts.queue.send(queue, message, task.tenant)
        except InferLineError:
            with suppress(InferLineError):
                await self.parts.store.expire(task.ref)
            raise

    async def _message(self, submission: Submission) -> Message:
        """Return a task's message, having stored the body beside it if it is too large."""
        task, body = submission.task, submission.body
        is_json = bool(body) and CONTENT_TYPE not in task.request_headers
        inline = Message(ref=task.ref, body=body, is_json=is_json)
        if inline.fits(self.parts.settings.inline_bytes_max):
            return inline
        key = body_key(task.ref)
        await self.parts.bodies.put(key, body)
        return Message(ref=task.ref, body_key=key, is_json=is_json)


def _tier_not_permitted(tier: Tier, caller: Caller) -> NotPermitted:
    return NotPermitted(
        f"This key may not use the tier {tier!r} but {', '.join(caller.tiers)}: name one in "
        "`service_tier`.",
        param="service_tier",
    )
