"""The exchange with the backend about one task: its request, or the rest of it, and the answer."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import Final

from inferline.errors import BackendFailed
from inferline.streams.endings import document_of
from inferline.tasks.queue import Message
from inferline.tasks.store import AttemptOutcome
from inferline.tasks.task import Task
from inferline.validation.forwarding import CONTENT_TYPE
from inferline_provider.backend.classification import Finish, failure, usage_of
from inferline_provider.faults import BadAnswer, NotRepeated, SilentTooLong, Unreachable
from inferline_provider.relay.alias import rename, rename_in_query, rename_in_request
from inferline_provider.relay.chunk_stream import ChunkStream
from inferline_provider.relay.continuation import continuation, draws_of, may_continue
from inferline_provider.relay.delivered import CHAT, Delivered, delivered
from inferline_provider.relay.relay import Relay
from inferline_provider.relay.resumable import ResumableWatch, may_suspend
from inferline_provider.relay.splice import Splice
from inferline_provider.relay.usage_question import is_refusal
from inferline_provider.serve.attempt_context import AttemptContext
from inferline_provider.serve.claim import is_intact
from inferline_provider.telemetry.attempts import AttemptTelemetry, asks_stream

log = logging.getLogger(__name__)

DAMAGED: Final = "The request was damaged on its way to the provider. Send it again."


class Exchange:
    """One attempt's requests to the backend, of which the last is relayed to the client."""

    def __init__(
        self,
        context: AttemptContext,
        task: Task,
        message: Message,
        stream: ChunkStream,
        telemetry: AttemptTelemetry,
        *,
        gives_way: bool = False,
    ) -> None:
        self._context = context
        self._task = task
        self._message = message
        self._stream = stream
        self._telemetry = telemetry
        #: Whether the task may be suspended for a better one, as far as is known.
        self._gives_way = gives_way
        self._watch: ResumableWatch | None = None
        #: The client's body, once it is at hand.
        self._request = b""
        #: Whether the backend has sent a first event.
        self._is_alive = False
        #: The provider that wrote the last part of the answer before this attempt; empty for none.
        self.writer = ""

    @property
    def is_seen(self) -> bool:
        """Return True if a reader may have a part of the answer: only streams are read in parts."""
        return self._stream.begun and self._may_be_stream

    @property
    def is_stuck(self) -> bool:
        """
        Return True if a reader may have a part of the answer, and no other attempt could go on.
        """
        return self.is_seen and not may_continue(self._task.path, self._request)

    @property
    def can_go_on(self) -> bool:
        """Return True if another attempt can follow."""
        return self._task.attempts_left > 0 and not self.is_stuck

    @property
    def can_be_suspended(self) -> bool:
        """Return True if the answer could be broken off now, and surely go on later."""
        return self._watch is not None and self._watch.can_go_on

    @property
    def tokens(self) -> int:
        """Return how many tokens of an answer have come that may be suspended."""
        return self._watch.tokens if self._watch else 0

    @property
    def _may_be_stream(self) -> bool:
        """Return True if the request asks for a stream; a form, which is not read here, may."""
        is_form = CONTENT_TYPE in self._task.request_headers
        return is_form or document_of(self._request).get("stream") is True

    async def run(self) -> Finish:
        """
        Ask the backend, and once more after a failure, since most tasks have no other backend.

        When a healthy server fails twice in the same way, the request is the cause. Raises Fault or
        Unavailable.
        """
        try:
            return await self._ask()
        except (Unreachable, SilentTooLong):
            raise  # Nobody knows what it did with the request, or it would take as long again.
        except BadAnswer as first:
            self._stream.hold()
            if self._stream.begun or not await self._context.diagnosis.is_well():
                raise
            self._stream.discard()
            failed = first
        try:
            return await self._ask()
        except BadAnswer as second:
            second.is_repeated = str(second) == str(failed)
            raise

    async def _ask(self) -> Finish:
        """Send the task to the backend and relay its answer. Raises Fault or Unavailable."""
        context, task = self._context, self._task
        body = self._message.body
        if body is None:
            body = await context.bodies.get(self._message.body_key or "")
        if not is_intact(task, body):
            return Finish(failure(BackendFailed(DAMAGED, code="damaged_request")))
        self._request = body
        self._gives_way = self._gives_way and await self._can_resume()
        # Nobody has seen a part of an answer that is no stream.
        may_be_begun = task.attempt > 1 and self._may_be_stream
        if may_be_begun and (left := await delivered(context.store, task)) is not None:
            return await self._go_on(left)
        return await self._send(body)

    async def _can_resume(self) -> bool:
        """Return True if the backend can continue answers to such a request. Raises Fault."""
        task, request = self._task, document_of(self._request)
        if not may_suspend(task.path, self._request):
            return False
        if not task.path.endswith(CHAT):
            return True
        name = self._context.aliases.get(task.model, task.model)
        shape = request.get("chat_template_kwargs")
        return await self._context.backend.can_continue(name, shape)

    async def _go_on(self, left: Delivered) -> Finish:
        """Have the backend continue what others began. Raises Fault or Unavailable."""
        self._stream.follow(left.after)
        self.writer = left.provider
        for _ in range(1, draws_of(self._request)):
            with suppress(NotRepeated):
                return await self._continue(left)
        return await self._continue(left)

    async def _continue(self, left: Delivered) -> Finish:
        context, task = self._context, self._task
        name = context.aliases.get(task.model, task.model)
        rest = await continuation(left, task.path, self._request, name, context.backend)
        if rest.body is None:
            self._stream.head(200, left.content_type)
            usage = usage_of({"usage": left.usage})
            outcome = AttemptOutcome(status=200, content_type=left.content_type, usage=usage)
            return Finish(outcome, rest.splice.rest())
        log.info("An answer that others began is continued. task=%s", task.ref.id)
        return await self._send(rest.body, rest.splice)

    async def _send(self, body: bytes, splice: Splice | None = None) -> Finish:
        """Send a body with the question for its usage, or without, if the backend refuses that."""
        usage = self._context.usage
        asking = usage.ask(self._task.path, body)
        if asking is not None and not is_refusal(finish := await self._post(asking, splice, True)):
            return finish
        finish = await self._post(body, splice, False)
        if asking is not None and finish.outcome.status < 400:
            usage.stop()
        return finish

    async def _post(self, body: bytes, splice: Splice | None, hides_usage: bool) -> Finish:
        """Post a body to the backend and relay its answer. Raises Fault or Unavailable."""
        context, task = self._context, self._task
        name, outward = context.aliases.get(task.model), None
        query = task.query
        if name is not None:
            content_type = task.request_headers.get(CONTENT_TYPE, "")
            body = rename_in_request(body, content_type, task.model, name)
            query = rename_in_query(query, task.model, name)
            outward = partial(rename, old=name, new=task.model)
        if self._gives_way:
            self._watch = ResumableWatch(task.path, body)
        relay = Relay(
            context.terms,
            task.path,
            body,
            self._stream,
            rename=outward,
            on_event=self._event,
            hides_usage=hides_usage,
            usage_asker=context.usage,
            splice=splice,
            watch=self._watch,
            can_go_on=lambda: self.can_go_on,
        )
        with self._telemetry.asking(body) as traceparent:
            async with context.backend.post(
                task.path,
                body,
                self._first_byte_seconds(body),
                traceparent,
                query=query,
                forwarded=task.request_headers,
            ) as response:
                finish = await relay.run(response)
            context.diagnosis.breakers.alive(task.model, task.ref)
            self._telemetry.answered(finish.outcome)
        return finish

    def _first_byte_seconds(self, body: bytes) -> float:
        """
        Return how long the backend may be silent at first: less if another may take the stream.

        Once for each task: else a long prefill would begin everywhere and end nowhere.
        """
        terms, task = self._context.terms, self._task
        peers = self._context.failed_tasks.peers(task.ref)
        if task.attempt == 1 and task.attempts_left and peers and asks_stream(body):
            return min(terms.first_event_seconds_max, terms.first_byte_seconds_max)
        return terms.first_byte_seconds_max

    def _event(self) -> None:
        """Note an event of the answer; the first shows that the backend works."""
        self._telemetry.event()
        if not self._is_alive:
            self._is_alive = True
            self._context.diagnosis.breakers.alive(self._task.model, self._task.ref)
