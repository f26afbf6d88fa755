"""
One answer on its way to a client: waits for it, sends it as it comes, and notices a client gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from math import inf
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from inferline.errors import (
    DeadlineExceeded,
    GatewayStopping,
    InferLineError,
    NoProvider,
    ProviderFault,
    ProviderLost,
    TaskCancelled,
    Unavailable,
)
from inferline.gateway.answer.abandon import abandon
from inferline.gateway.answer.compression import Gzipped
from inferline.gateway.answer.contract import Contract
from inferline.gateway.answer.events import error_event, only_event
from inferline.gateway.answer.headers import EVENT_STREAM, headers_of
from inferline.gateway.answer.model_name import Naming
from inferline.gateway.answer.reader import Reader, backends_headers
from inferline.gateway.answer.reader_lease import ReaderLease
from inferline.gateway.answer.request_log import RequestLog
from inferline.gateway.answer.smoothing import Smoother
from inferline.gateway.answer.strikes import strike
from inferline.gateway.errors import error_response
from inferline.gateway.parts import GatewayParts
from inferline.gateway.polling import PollBackoff
from inferline.streams.endings import said_all
from inferline.streams.pacing import interval
from inferline.streams.sse import Rest, comment
from inferline.tasks.store import TaskRead, Wanted
from inferline.tasks.task import AnswerHead, Task
from inferline.validation.output_rules import may_be_media

log = logging.getLogger(__name__)

#: How long past its deadline a task may be before the gateway ends it itself, seconds.
DEADLINE_GRACE_SECONDS: Final = 1.0
#: Between two checks of what else may be due while nothing comes; looks are far more frequent.
CHECK_SECONDS: Final = 0.1
#: How long a client may take to hear that its call is cut off, seconds.
CUT_OFF_SECONDS: Final = 0.5
#: How many looks may fail in a row before the client is told.
LOOKS_FAILED_MAX: Final = 5
PING: Final = comment("ping")
#: JSON may begin with it.
BLANK: Final = b" "
OK: Final = 200


class Answer(Response):
    """
    The response to a submitted task.

    Nothing is sent before the first bytes of the answer are there, so that whatever goes wrong
    until then is a real HTTP error; a stream's status line waits at most `first_byte_wait_seconds`.
    """

    def __init__(
        self,
        line: GatewayParts,
        task: Task,
        visit: RequestLog,
        *,
        streamed: bool,
        joined: bool = False,
        after: int = 0,
        first_seconds: float = inf,
        gzips: bool = False,
        seconds_max: float = inf,
    ) -> None:
        """
        ``joined``: somebody else may still read it, so this client's leaving ends nothing.
        ``after``: how many events of a stream the client has. ``first_seconds``: how long it waits
        for the first byte. ``gzips``: whether the body goes out compressed. ``seconds_max``: how
        long after the request came this process may go on with it.
        """
        self.background = None
        self._line = line
        self._task = task
        self._visit = visit
        self._streamed = streamed
        self._joined = joined
        self._rest = Rest(after)
        self._first_seconds = first_seconds
        self._gzips = gzips
        self._reader = Reader(task.ref, streamed=streamed)
        self._contract = Contract(line.settings, task)
        self._attendance = ReaderLease(line, task.reader, lambda: self._reader.task or self._task)
        self._pace = PollBackoff(line.settings, streamed=streamed)
        asked = line.settings.response_model == "requested"
        self._naming = Naming(task.model) if asked else None
        self._smoother = Smoother(line.settings.smooth_seconds)
        self._started = False
        #: Whether the last of it is out, or on its way.
        self._over = False
        #: What was sent last.
        self._sent = b""
        self._news = self._begun = line.clock.monotonic()
        self._pinged = self._begun
        self._served = self._begun
        self._check_at = self._begun + CHECK_SECONDS
        #: When its client is handed on; a deadline of the same moment is told as one.
        self._hand_on_at = visit.arrived + seconds_max + 2 * DEADLINE_GRACE_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Deliver the answer, or cancel the task when the client goes away before its end.

        Where it is the server that cuts the call off, the task goes on.
        """
        sending = Gzipped(send) if self._gzips else send
        deliver = asyncio.ensure_future(self._deliver(sending))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            with self._attendance:
                await asyncio.wait({deliver, gone}, return_when=asyncio.FIRST_COMPLETED)
            if deliver.done():
                deliver.result()
        finally:
            unfinished = not deliver.done()
            deliver.cancel()
            gone.cancel()
            if unfinished and gone.done():
                self._ended(TaskCancelled.status, TaskCancelled.code)
                await asyncio.shield(self._leave())
            elif unfinished:
                self._ended(OK if self._started else GatewayStopping.status, GatewayStopping.code)
                await self._tell_cut_off(deliver, sending)
                await asyncio.shield(self._attendance.end())
            self._ended(InferLineError.status, InferLineError.code)  # Else nobody foresaw its end.

    async def _leave(self) -> None:
        """End the task with its last client, unless it has ended or somebody else may read it."""
        task = self._reader.task or self._task
        if not self._joined and not task.state.terminal:
            await abandon(self._line, self._task)

    async def _deliver(self, send: Send) -> None:
        try:
            with self._line.waiting.holding(lambda: self._reader.task or self._task):
                await self._relay(send)
        except ProviderFault as error:
            await self._strike(error)
            await abandon(self._line, self._task)
            await self._fail(send, error)
        except (ProviderLost, Unavailable) as error:
            await abandon(self._line, self._task)
            await self._fail(send, error)
        except GatewayStopping as error:
            await self._attendance.end()
            await self._fail(send, error)
        except InferLineError as error:
            await self._fail(send, error)
        except Exception:
            # Whoever is outside of this can still tell it as a status, and not in a stream.
            if self._started:
                await self._fail(send, InferLineError())
            raise

    async def _tell_cut_off(self, deliver: asyncio.Future[None], send: Send) -> None:
        """Say in a stream that it ends here, unless its client takes nothing any more."""
        await asyncio.wait({deliver}, timeout=CUT_OFF_SECONDS)
        if self._started and self._streamed and not self._over:
            telling = asyncio.ensure_future(self._fail(send, GatewayStopping()))
            await asyncio.wait({telling}, timeout=CUT_OFF_SECONDS)
            telling.cancel()

    async def _end_contract(self) -> None:
        """Judge what fails no answer; before its last piece, with which the call may end."""
        try:
            self._contract.check_usage(self._reader.task or self._task)
        except ProviderFault as error:
            await self._strike(error)

    async def _strike(self, fault: ProviderFault) -> None:
        if not self._joined:  # Who comes to an ended task reads what was judged before.
            await strike(self._line, self._task, self._contract.suspect, fault.breach)

    async def _relay(self, send: Send) -> None:
        """Send a stream's pieces as they come, and any other answer when it is whole."""
        held: list[bytes] = []
        while not self._reader.ended:
            held += await self._look(send)
            if held and self._flows:
                await self._send(send, self._smoothed(held), more=not self._reader.ended)
                if self._reader.ended:
                    return
                held = []
            elif not self._reader.behind and self._line.clock.monotonic() >= self._check_at:
                await self._wait_on(send)
        body = b"".join(held)
        if self._naming is not None and not self._flows:
            body = self._naming.whole(body)
        head = self._reader.head
        assert head is not None  # The answer is whole.
        if self._started and self._streamed and not self._flows:  # Then this is its only event.
            body = only_event(self._task.path, head, body)
        elif self._started and not self._streamed and head.status != OK:
            self._break_off(f"backend_{head.status}")
            return
        await self._send(send, body, more=False)

    @property
    def _flows(self) -> bool:
        """Whether the answer has shown itself to be a stream."""
        head = self._reader.head
        return self._streamed and head is not None and head.content_type.startswith(EVENT_STREAM)

    def _smoothed(self, pieces: list[bytes]) -> bytes:
        """What of a stream is to go out now that ``pieces`` have come; the rest follows in time."""
        data = b"".join(pieces)
        if self._reader.ended or self._reader.behind or len(pieces) > 1:
            return self._smoother.rest() + data
        return self._smoother.put(data, self._interval, self._line.clock.monotonic())

    @property
    def _interval(self) -> float:
        """From the last chunk to the next, seconds."""
        return interval(self._reader.seq, self._line.settings.flush_seconds)

    async def _look(self, send: Send) -> list[bytes]:
        """The bytes that have come since the last look. Raises GatewayStopping and Unavailable."""
        if self._line.closing.is_set() or self._line.clock.monotonic() >= self._hand_on_at:
            raise GatewayStopping
        wanted = self._reader.wanted()
        found = await self._while_smoothing(send, self._found(wanted))
        self._contract.check(found)
        was_live = not (self._reader.task or self._task).state.terminal
        pieces = self._reader.take(wanted, found)
        self._contract.count(pieces, self._line.store.now_ms())
        if pieces or (was_live and (self._reader.task or self._task).state.terminal):
            self._news = self._line.clock.monotonic()
        if self._reader.ended:
            await self._end_contract()
        if not self._flows:
            return pieces
        rest = self._rest.of(pieces)
        return self._naming.events(rest, last=self._reader.ended) if self._naming else rest

    async def _while_smoothing(
        self, send: Send, looking: Coroutine[Any, Any, TaskRead]
    ) -> TaskRead:
        """What is found; until then, pieces of the last chunk go out when they are due."""
        clock, smoother = self._line.clock, self._smoother
        if smoother.next_at == inf:
            return await looking
        look = asyncio.ensure_future(looking)
        try:
            while smoother.next_at < inf:
                left = max(0.0, smoother.next_at - clock.monotonic())
                if (await asyncio.wait({look}, timeout=left))[0]:
                    break
                if piece := smoother.take(clock.monotonic()):
                    await self._send(send, piece, more=True)
            return await look
        finally:
            look.cancel()

    async def _found(self, wanted: Wanted) -> TaskRead:
        """What is new of ``wanted``, or of old what there is when a check is due."""
        watch, seen, pause = self._line.watch, self._reader.task or self._task, self._pause
        at_once, failed = self._reader.behind, 0
        while True:
            seconds = self._check_at - self._line.clock.monotonic()
            try:
                return await watch.next_change(
                    wanted, seen, pause, at_once=at_once, seconds=seconds
                )
            except Unavailable:
                failed += 1
                if failed == LOOKS_FAILED_MAX:
                    raise
            longer = self._line.settings.poll_seconds_max * 2 ** (failed - 1)
            at_once, pause = False, partial(float, longer)

    def _pause(self) -> float:
        waited = self._line.clock.monotonic() - self._news
        return self._pace.pause(waited, self._interval if self._reader.flowing else None)

    async def _wait_on(self, send: Send) -> None:
        """Do what is due while nothing comes. Raises what ends the wait."""
        now = self._line.clock.monotonic()
        self._check_at = now + CHECK_SECONDS
        task = self._reader.task or self._task
        overdue_ms = self._line.store.now_ms() - task.deadline_ms
        if overdue_ms > DEADLINE_GRACE_SECONDS * 1000:
            await self._line.store.expire(task.ref)
            raise DeadlineExceeded
        if not self._started and now - self._begun > self._first_seconds:
            await self._leave()
            raise DeadlineExceeded
        self._contract.check_seen(task, now - self._news)
        await self._check_served(now, task)
        await self._keep_open(send, now)

    async def _keep_open(self, send: Send, now: float) -> None:
        """Send what means nothing, so that nobody on the way cuts off a silent answer."""
        settings = self._line.settings
        if self._streamed:
            start, every = settings.first_byte_wait_seconds, settings.ping_seconds
            kind, nothing = f"{EVENT_STREAM}; charset=utf-8", PING
        else:
            start = every = (
                inf if may_be_media(self._task.path) else settings.keepalive_after_seconds
            )
            kind, nothing = "application/json", BLANK
        if not self._started and now - self._begun > start:
            await self._start(send, AnswerHead(200, kind, "", 0))
        if self._started and now - max(self._news, self._pinged) > every:
            self._pinged = now
            await send({"type": "http.response.body", "body": nothing, "more_body": True})

    async def _check_served(self, now: float, task: Task) -> None:
        """
        Raise NoProvider once nobody has served the model for too long and nobody holds the task.
        """
        line = self._line
        is_held = not task.waits(line.store.now_ms())
        if is_held or (await line.catalogue.model(task.registry_name)).is_served:
            self._served = now
        elif now - self._served > line.settings.no_provider_seconds:
            if await line.store.expire(task.ref):
                raise NoProvider(
                    f"No provider has served the model {task.model!r} for "
                    f"{line.settings.no_provider_seconds:g} s. Try again later, or start one."
                )
            self._served = now

    async def _send(self, send: Send, body: bytes, *, more: bool) -> None:
        head = self._reader.head
        assert head is not None  # A stream's came first, any other's at its end.
        self._visit.sends(body)
        self._sent = body
        self._over = not more
        if not more:  # Before the last piece: once that is out, a Lambda may be frozen.
            self._ended(head.status, f"backend_{head.status}" if head.status >= 400 else "")
        if not self._started:
            await self._start(send, head, None if more else len(body))
        await send({"type": "http.response.body", "body": body, "more_body": more})

    async def _start(self, send: Send, head: AnswerHead, length: int | None = None) -> None:
        self._started = True
        headers = headers_of(head, self._reader.attempt, length)
        if head.status >= 400 and self._reader.task is not None:
            headers |= backends_headers(self._reader.task)
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": head.status, "headers": raw})

    async def _fail(self, send: Send, error: InferLineError) -> None:
        """Tell of ``error``: as the HTTP response, or in the stream when that has begun."""
        if self._started and not self._streamed:
            self._break_off(error.code)
            return
        if rest := self._smoother.rest():
            await self._send(send, rest, more=True)
        self._over = True
        if self._started and said_all(self._task.path, self._sent):
            self._ended(OK, "")
            await send({"type": "http.response.body", "body": b""})
            return
        self._ended(OK if self._started else error.status, error.code)
        if self._started:
            # What was cut off in its middle would swallow the event.
            apart = b"" if self._sent[-1:] in b"\n" else b"\n\n"
            event = apart + error_event(self._task.path, error)
            await send({"type": "http.response.body", "body": event})
            return
        told = error_response(error)
        start = {"status": told.status_code, "headers": told.raw_headers}
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": told.body})

    def _break_off(self, code: str) -> None:
        """
        End without the rest: of an answer that began as 200 only to stay open, a failure can't be
        told, and a body with an error in it would pass for a success.
        """
        log.warning("an answer kept open was broken off", extra={"code": code})
        self._ended(OK, code)

    def _ended(self, status: int, code: str) -> None:
        reader, latest = self._reader, self._reader.task or self._task
        # What several read was made once: who has not joined counts it.
        usage = {} if self._joined else latest.usage
        self._visit.ended(
            *(status, code), head=reader.head, attempt=reader.attempt, latest=latest, usage=usage
        )


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
