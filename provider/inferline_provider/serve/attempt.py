"""One attempt at a task: the answer goes to the store, the task ends, and then its message goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

from inferline.errors import BackendFailed, LeaseLost, ProviderLost, Unavailable
from inferline.streams.endings import document_of
from inferline.tasks.queue import Delivery, Message
from inferline.tasks.store import AttemptOutcome
from inferline.tasks.task import Task
from inferline.validation.forwarding import CONTENT_TYPE
from inferline_provider.backend.classification import Finish, failure, usage_of
from inferline_provider.faults import (
    BadAnswer,
    Busy,
    Fault,
    NotRepeated,
    SilentTooLong,
    Unreachable,
)
from inferline_provider.relay.alias import rename, rename_in_query, rename_in_request
from inferline_provider.relay.continuation import Splice, continuation, draws_of, may_continue
from inferline_provider.relay.delivered import Delivered, delivered
from inferline_provider.relay.relay import Relay
from inferline_provider.relay.usage import is_refusal
from inferline_provider.serve.attempt_context import AttemptContext
from inferline_provider.serve.claim import is_intact
from inferline_provider.serve.leases import Stop
from inferline_provider.serve.next_step import Circumstances, HandBack, next_step
from inferline_provider.telemetry.attempts import AttemptEnding, AttemptTelemetry, asks_stream

log = logging.getLogger(__name__)

#: The first and the longest pause after a write that failed, seconds.
PAUSE_SECONDS: Final = (0.1, 2.0)

DAMAGED: Final = "The request was damaged on its way to the provider. Send it again."

#: How an attempt ends; None: its deadline passed, or it was stopped.
_End = Finish | HandBack | None


class Attempt:
    """
    One attempt, from its claim to the end of its message.

    Order matters: the task's row ends first, its message goes afterwards. Whoever finds the message
    of an ended task deletes it, but nobody would find a live task without one.
    """

    def __init__(
        self,
        context: AttemptContext,
        task: Task,
        message: Message,
        delivery: Delivery,
        confirmed_at: float,
    ) -> None:
        self.task = task
        self.delivery = delivery
        self.confirmed_at = confirmed_at
        self._context = context
        self._message = message
        self._stream = context.writer.open(task)
        self._trail = AttemptTelemetry(
            context.telemetry, task, context.provider, context.clock, context.store.now_ms
        )
        self._ending: AttemptEnding = "broken"
        #: Whether it has an answer that is no failure and no refusal, once it has been served.
        self.is_answered = False
        self._stopped: Stop | None = None
        #: The client's body, once it is at hand.
        self._request = b""
        self._is_served = False
        #: Whether the backend has sent a first event.
        self._is_alive = False
        #: The provider that wrote the last of what there is of its answer; empty for none.
        self._writer = ""
        self._serving: asyncio.Task[_End] | None = None

    def abort(self, stop: Stop) -> None:
        """Stop at once, and with it the backend's work. Repeats do nothing."""
        if self._stopped is not None or (stop is Stop.DRAINED and self._is_served):
            return
        self._stopped = stop
        if not self._is_served:
            if stop is Stop.DRAINED:
                self._stream.hold()
            else:
                self._stream.discard()
            if self._serving is not None:
                self._serving.cancel()

    async def run(self, served: Callable[[], None]) -> None:
        """Run the attempt. `served` is called as soon as the backend has room again."""
        self._context.leases.hold(self)
        try:
            try:
                end = await self._serve_or_stop()
                self.is_answered = _is_answer(end)
            finally:
                self._is_served = True
                served()
            await self._end(await self._seal(end))
        finally:
            self._context.leases.drop(self)
            self._trail.ended(self._ending)

    async def _serve_or_stop(self) -> _End:
        """Return how the attempt ends."""
        if self._stopped is not None:
            return None
        self._serving = asyncio.create_task(self._serve())
        try:
            await asyncio.wait({self._serving})
        finally:
            self._serving.cancel()
        if self._serving.cancelled() or self._stopped is not None:
            return None
        return self._serving.result()

    async def _serve(self) -> _End:
        task, breakers = self.task, self._context.diagnosis.breakers
        left_seconds = (task.deadline_ms - self._context.store.now_ms()) / 1000
        breakers.begin(task.model, task.ref)
        try:
            async with asyncio.timeout(left_seconds) as deadline:
                return await self._ask_twice()
        except TimeoutError:
            if not deadline.expired():
                raise
            return None
        except Fault as fault:
            return self._after(fault)
        except Unavailable:
            self._stream.hold()
            log.warning("An attempt failed: a store does not answer. task=%s", task.ref.id)
            if self._is_stuck:
                return Finish(failure(ProviderLost()))
            return HandBack(spared=False, hide_seconds=1)
        finally:
            breakers.end(task.model, task.ref)

    async def _ask_twice(self) -> Finish:
        """
        Ask the backend, and once more after a failure, since most have no second one.

        What a server that is well fails in the same way twice is the request's own failure. Raises
        Fault or Unavailable.
        """
        try:
            return await self._ask()
        except (Unreachable, SilentTooLong):
            raise  # What it did to the request is not known, or would take as long again.
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

    def _after(self, fault: Fault) -> _End:
        """Return what follows a fault, after all who have to know of it have heard."""
        context, task = self._context, self.task
        self._stream.hold()
        begun = self._is_seen
        refused = context.passes.refuse(task.ref) if isinstance(fault, Busy) else None
        context.passes.add(task.ref, briefly=begun or isinstance(fault, Busy))
        log.warning("An attempt failed. %s task=%s", fault, task.ref.id)
        has_good_key = context.diagnosis.has_good_key
        context.diagnosis.conclude(task, fault, again=refused is not None)
        seen = Circumstances(
            attempt=task.attempt,
            attempts_left=task.attempts_left,
            begun=begun,
            stuck=self._is_stuck,
            peers=self._peers,
            refused_seconds=refused,
            busy_seconds_max=context.terms.busy_seconds_max,
            has_good_key=has_good_key,
            unfit=self._unfit,
            others=context.passes.others(task.ref, self._unfit - {context.provider}, self._writer),
        )
        return next_step(fault, seen)

    @property
    def _peers(self) -> int:
        """How many other providers serve the model."""
        return self._context.passes.peers(self.task.ref)

    @property
    def _unfit(self) -> frozenset[str]:
        """Those who can't go on with the answer: who have said so, and who was lost with it."""
        lost = {self._writer} if self._writer and self.task.lapsed_ms else set()
        return frozenset({self._context.provider, *self.task.unfit.split(), *lost})

    @property
    def _is_stuck(self) -> bool:
        """Whether a reader may have some of the answer, and no other attempt could go on."""
        return self._is_seen and not may_continue(self.task.path, self._request)

    @property
    def _is_seen(self) -> bool:
        """Whether a reader may have some of the answer: of one that is no stream nobody has any."""
        return self._stream.begun and self._may_be_stream

    @property
    def _may_be_stream(self) -> bool:
        """Whether the request asks for a stream; a form, which is not read here, may."""
        is_form = CONTENT_TYPE in self.task.request_headers
        return is_form or document_of(self._request).get("stream") is True

    def _can_go_on(self) -> bool:
        return self.task.attempts_left > 0 and not self._is_stuck

    def _first_seconds(self, body: bytes) -> float:
        """
        How long the backend may be silent at first: less where another could have the stream.

        Once for each task: else a long prefill would be begun everywhere and ended nowhere.
        """
        terms, task = self._context.terms, self.task
        is_movable = task.attempt == 1 and task.attempts_left and self._peers
        if is_movable and asks_stream(body):
            return min(terms.first_event_seconds_max, terms.first_byte_seconds_max)
        return terms.first_byte_seconds_max

    async def _ask(self) -> Finish:
        """Put the task to the backend and relay its answer. Raises Fault or Unavailable."""
        context, task = self._context, self.task
        body = self._message.body
        if body is None:
            body = await context.bodies.get(self._message.body_key or "")
        if not is_intact(task, body):
            return Finish(failure(BackendFailed(DAMAGED, code="damaged_request")))
        self._request = body
        # Of an answer that is no stream nobody has seen anything.
        may_be_begun = task.attempt > 1 and self._may_be_stream
        if may_be_begun and (left := await delivered(context.store, task)) is not None:
            return await self._go_on(left)
        return await self._put(body)

    async def _go_on(self, left: Delivered) -> Finish:
        """Have the backend continue what others began. Raises Fault or Unavailable."""
        self._stream.follow(left.after)
        self._writer = left.provider
        for _ in range(1, draws_of(self._request)):
            with suppress(NotRepeated):
                return await self._continue(left)
        return await self._continue(left)

    async def _continue(self, left: Delivered) -> Finish:
        context, task = self._context, self.task
        name = context.aliases.get(task.model, task.model)
        rest = await continuation(left, task.path, self._request, name, context.backend)
        if rest.body is None:
            self._stream.head(200, left.content_type)
            usage = usage_of({"usage": left.usage})
            outcome = AttemptOutcome(status=200, content_type=left.content_type, usage=usage)
            return Finish(outcome, rest.splice.rest())
        log.info("An answer goes on that others began. task=%s", task.ref.id)
        return await self._put(rest.body, rest.splice)

    async def _put(self, body: bytes, splice: Splice | None = None) -> Finish:
        """Put a body to the backend, with the question for its usage unless it refuses that."""
        usage = self._context.usage
        asking = usage.ask(self.task.path, body)
        if asking is not None and not is_refusal(finish := await self._post(asking, True, splice)):
            return finish
        finish = await self._post(body, False, splice)
        if asking is not None and finish.outcome.status < 400:
            usage.stop()
        return finish

    async def _post(self, body: bytes, hides_usage: bool, splice: Splice | None) -> Finish:
        """Put a body to the backend and relay its answer. Raises Fault or Unavailable."""
        context, task, trail = self._context, self.task, self._trail
        name, outward = context.aliases.get(task.model), None
        query = task.query
        if name is not None:
            content_type = task.request_headers.get(CONTENT_TYPE, "")
            body = rename_in_request(body, content_type, task.model, name)
            query = rename_in_query(query, task.model, name)
            outward = partial(rename, old=name, new=task.model)
        relay = Relay(
            *(context.terms, task.path, body, self._stream, outward, self._event),
            hides_usage=hides_usage,
            usage_asker=context.usage,
            splice=splice,
            can_go_on=self._can_go_on,
        )
        with trail.asking(body) as traceparent:
            silence = self._first_seconds(body)
            async with context.backend.post(
                *(task.path, body, silence, traceparent),
                query=query,
                forwarded=task.request_headers,
            ) as response:
                finish = await relay.run(response)
            context.diagnosis.breakers.alive(task.model, task.ref)
            trail.answered(finish.outcome)
        return finish

    def _event(self) -> None:
        """Note that the backend has sent an event of its answer: the first shows that it lives."""
        self._trail.event()
        if not self._is_alive:
            self._is_alive = True
            self._context.diagnosis.breakers.alive(self.task.model, self.task.ref)

    async def _seal(self, end: _End) -> _End:
        """Write the answer but for its last piece, which rides on the write that ends the task."""
        if self._stopped is Stop.DRAINED:
            # What a reader has seen the beginning of can't begin again elsewhere.
            end = Finish(failure(ProviderLost())) if self._is_stuck else HandBack(True, 0)
        if not isinstance(end, Finish):
            if isinstance(end, HandBack) and self._stream.begun:
                with suppress(Unavailable):  # Then the next attempt does that again.
                    await self._stream.flush()
            self._stream.discard()
            return end
        try:
            chunks, tail = await self._stream.close(end.rest)
        except Unavailable:
            log.warning("An answer can't be written. task=%s", self.task.ref.id)
            self._stream.discard()
            if self._can_go_on():
                return HandBack(spared=False, hide_seconds=1)
            return Finish(failure(ProviderLost()))
        return Finish(replace(end.outcome, chunks=chunks, tail=tail))

    async def _end(self, end: _End) -> None:
        """Write the end of the attempt, again if need be, for as long as the lease is ours."""
        pause, longest = PAUSE_SECONDS
        while self._stopped in (None, Stop.DRAINED):
            try:
                return await self._write_end(end)
            except LeaseLost:
                self._ending = "lost"
                return await self._let_go()
            except Unavailable:
                log.warning("The end of a task can't be written yet. task=%s", self.task.ref.id)
            await self._context.clock.sleep(pause)
            pause = min(longest, pause * 2)
        log.info("An attempt stopped: %s. task=%s", self._stopped.value, self.task.ref.id)
        self._ending = "ended" if self._stopped is Stop.ENDED else "lost"
        if self._stopped is not Stop.FENCED:
            await self._let_go()
        return None

    async def _write_end(self, end: _End) -> None:
        store, queue = self._context.store, self._context.queue
        if isinstance(end, HandBack):
            await store.hand_back(self.task, counts=not end.spared, unfit=end.unfit)
            self._ending = "handed_back"
            return await queue.change_visibility([self.delivery], end.hide_seconds)
        if end is None:
            await store.expire(self.task.ref)
            self._ending = "expired"
        else:
            await store.finish(self.task, end.outcome)
            is_failed = end.outcome.error or end.outcome.status >= 500
            self._ending = "failed" if is_failed else "answered"
        return await queue.delete([self.delivery])

    async def _let_go(self) -> None:
        """Leave a task that is not ours alone; only the message of an ended one goes."""
        ref = self.task.ref
        try:
            found = (await self._context.store.statuses([ref])).get(ref)
            if found is not None and found.state.terminal:
                await self._context.queue.delete([self.delivery])
        except Unavailable:
            pass  # Whoever receives the message next will see.


def _is_answer(end: _End) -> bool:
    return isinstance(end, Finish) and not end.outcome.error and end.outcome.status < 400
