"""The response to a submitted task: transfers it, and cancels the task if the client leaves."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from inferline.errors import (
    GatewayStopping,
    InferLineError,
    ProviderFault,
    ProviderLost,
    TaskCancelled,
    Unavailable,
)
from inferline.gateway.answer.abandon import abandon
from inferline.gateway.answer.reader_lease import ReaderLease
from inferline.gateway.answer.reads import AnswerReads
from inferline.gateway.answer.request_log import RequestLog
from inferline.gateway.answer.sender import OK, Sender
from inferline.gateway.answer.stages.compression import Gzipped
from inferline.gateway.answer.transfer import AnswerTransfer
from inferline.gateway.parts import GatewayParts
from inferline.tasks.task import Task

#: How long a client may take to receive that its call is cut off, seconds.
CUT_OFF_SECONDS: Final = 0.5


class Answer(Response):
    """
    The response to a submitted task.

    Sends nothing before the answer's first bytes, so that an earlier failure is a real HTTP error;
    a stream's status line waits at most `first_byte_wait_seconds`.
    """

    def __init__(
        self,
        parts: GatewayParts,
        task: Task,
        request_log: RequestLog,
        *,
        streamed: bool,
        joined: bool = False,
        after: int = 0,
        first_seconds: float = inf,
        gzips: bool = False,
        seconds_max: float = inf,
    ) -> None:
        """
        Set up one answer. ``joined``: another client may read it, so the task outlives this one.
        ``after``: number of a stream's events that the client has. ``first_seconds``: longest wait
        for the first byte. ``gzips``: the body goes out compressed. ``seconds_max``: time since
        the request's arrival after which this process hands the answer on.
        """
        self.background = None
        self._parts = parts
        self._task = task
        self._joined = joined
        self._gzips = gzips
        self._reads = AnswerReads(parts, task, streamed=streamed, joined=joined)
        self._lease = ReaderLease(parts, task.reader, lambda: self._reads.task)
        self._sender = Sender(self._reads, task, request_log, streamed=streamed, joined=joined)
        self._transfer = AnswerTransfer(
            parts,
            task,
            self._reads,
            self._sender,
            streamed=streamed,
            after=after,
            first_seconds=first_seconds,
            hand_on_at=request_log.arrived + seconds_max,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Deliver the answer, or cancel the task if the client leaves before its end.

        If the server cuts the call off, the task goes on.
        """
        sender = self._sender
        sender.send = Gzipped(send) if self._gzips else send
        deliver = asyncio.ensure_future(self._deliver())
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            with self._lease:
                await asyncio.wait({deliver, gone}, return_when=asyncio.FIRST_COMPLETED)
            if deliver.done():
                deliver.result()
        finally:
            unfinished = not deliver.done()
            deliver.cancel()
            gone.cancel()
            if unfinished and gone.done():
                sender.ended(TaskCancelled.status, TaskCancelled.code)
                await asyncio.shield(self._leave())
            elif unfinished:
                sender.ended(OK if sender.started else GatewayStopping.status, GatewayStopping.code)
                await self._send_cut_off(deliver)
                await asyncio.shield(self._lease.end())
            sender.ended(InferLineError.status, InferLineError.code)  # Else nothing foresaw it.

    async def _leave(self) -> None:
        """Cancel the task with its last client, unless it has ended or has another reader."""
        if not self._joined and not self._reads.task.state.terminal:
            await abandon(self._parts, self._task)

    async def _deliver(self) -> None:
        try:
            with self._parts.waiting.holding(lambda: self._reads.task):
                await self._transfer.run(self._leave)
        except ProviderFault as error:
            await self._reads.strike(error)
            await abandon(self._parts, self._task)
            await self._fail(error)
        except (ProviderLost, Unavailable) as error:
            await abandon(self._parts, self._task)
            await self._fail(error)
        except GatewayStopping as error:
            await self._lease.end()
            await self._fail(error)
        except InferLineError as error:
            await self._fail(error)
        except Exception:
            if self._sender.started:  # Else the caller can still answer with a status.
                await self._fail(InferLineError())
            raise

    async def _fail(self, error: InferLineError) -> None:
        await self._sender.fail(error, self._transfer.unsent())

    async def _send_cut_off(self, deliver: asyncio.Future[None]) -> None:
        """Say in a stream that it ends here, unless its client takes nothing any more."""
        await asyncio.wait({deliver}, timeout=CUT_OFF_SECONDS)
        if self._sender.flows:
            failing = asyncio.ensure_future(self._fail(GatewayStopping()))
            await asyncio.wait({failing}, timeout=CUT_OFF_SECONDS)
            failing.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
