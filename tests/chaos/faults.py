"""The injecting proxy: it knows where in a task's life a call stands, and can break it there."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import aiohttp
from aiohttp import web

from tests.chaos.calls import Call, recognise
from tests.support import aws_proxy
from tests.support.script import reset

#: What AWS may do to a call. ``lost``: it is done, but nobody hears of it.
Fault = Literal["throttled", "broken", "slow", "reset", "lost"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
#: Before the emulator has seen the call, or before the caller has seen the answer.
Moment = Literal["before", "after"]
#: What is done to the process that makes the call, at once; a coroutine for what takes longer.
Deed = Callable[[], None]

#: How long a slow call takes longer, seconds.
SLOW_SECONDS = 0.8


@dataclass(frozen=True, slots=True)
class Point:
    """A named moment of a task's life, told by the call that makes it so."""

    name: str
    site: str
    moment: Moment
    #: Only the call that writes this chunk.
    seq: int | None = None
    #: Only an answer that has this in it, such as a message.
    payload: bytes = b""

    def is_at(self, call: Call, moment: Moment) -> bool:
        """Return whether a call, at that moment, is here."""
        seq_fits = self.seq is None or self.seq in call.seqs
        return (self.site, self.moment) == (call.site, moment) and seq_fits


@dataclass(slots=True, eq=False)
class Trap:
    """Waits for the next call at a point; then the deed is done, once."""

    point: Point
    deed: Deed
    sprung: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class Bend:
    """The next ``times`` calls at a site get a fault."""

    site: str
    fault: Fault
    times: int = 1
    done: asyncio.Event = field(default_factory=asyncio.Event)


class InjectingProxy(aws_proxy.Proxy):
    """One process's way to AWS. ``chance`` is how likely any call of it gets a fault."""

    def __init__(self, target: str, rng: random.Random) -> None:
        super().__init__(target)
        self.traps: list[Trap] = []
        self.bends: list[Bend] = []
        self.chance = 0.0
        #: The service that refuses every call, such as "s3"; empty for none. Not those by which a
        #: gateway makes its buckets when it starts: on AWS they are there.
        self.refusing = ""
        #: Calls seen by site, and faults by site and kind.
        self.calls: Counter[str] = Counter()
        self.faults: Counter[tuple[str, Fault]] = Counter()
        #: Whether the process is dead, and a call of it must not get through any more.
        self.is_dead: Callable[[], bool] = lambda: False
        #: Returns once the process is not stopped.
        self.awake: Callable[[], Awaitable[object]] = _at_once
        self._rng = rng

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one call, or do not."""
        body = await request.read()
        call = recognise(request, body)
        self.calls[call.site] += 1
        self._spring(call, "before", b"")
        # A stopped process has not sent this yet; a dead one never will.
        await self.awake()
        if self.is_dead():
            return _cut(request)
        fault = self._draw(call)
        try:
            if fault is None:
                return await self._done(request, body, call)
            self.faults[call.site, fault] += 1
            return await self._failed(request, body, call, fault)
        except aiohttp.ClientError:
            return _cut(request)

    async def _done(self, request: web.Request, body: bytes, call: Call) -> web.Response:
        response = await self.pass_on(request, body)
        if response.status < 300:
            assert isinstance(response.body, bytes)
            self._spring(call, "after", response.body)
        return response

    async def _failed(
        self, request: web.Request, body: bytes, call: Call, fault: Fault
    ) -> web.StreamResponse:
        match fault:
            case "throttled":
                return _throttled(call)
            case "broken":
                return _refusal(500, "InternalServerError", call)
            case "slow":
                await asyncio.sleep(SLOW_SECONDS)
                return await self._done(request, body, call)
            case "reset":
                return _cut(request)
            case "lost":
                await self._done(request, body, call)
                return _cut(request)

    def _spring(self, call: Call, moment: Moment, payload: bytes) -> None:
        for trap in self.traps:
            if trap.point.is_at(call, moment) and trap.point.payload in payload:
                self.traps.remove(trap)
                trap.sprung.set()
                trap.deed()
                return

    def _draw(self, call: Call) -> Fault | None:
        for bend in self.bends:
            if bend.site == call.site:
                bend.times -= 1
                if bend.times <= 0:
                    self.bends.remove(bend)
                    bend.done.set()
                return bend.fault
        if self.refusing and call.site.split()[0] == self.refusing and "bucket" not in call.site:
            return "throttled"
        if self._rng.random() < self.chance:
            return self._rng.choice(FAULTS)
        return None


def _throttled(call: Call) -> web.Response:
    if call.site.startswith("s3"):
        return _refusal(503, "SlowDown", call)
    if call.site.startswith("sqs"):
        return _refusal(400, "ThrottlingException", call)
    return _refusal(400, "ProvisionedThroughputExceededException", call)


def _refusal(status: int, code: str, call: Call) -> web.Response:
    """Return an error as the service writes it."""
    if call.site.startswith("s3"):
        text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>"
        return web.Response(status=status, text=text, content_type="application/xml")
    payload = {"__type": f"com.amazonaws#{code}", "message": "injected"}
    return web.json_response(payload, status=status)


def _cut(request: web.Request) -> web.Response:
    """Return nothing, and then a reset."""
    reset(request)
    return web.Response()


async def _at_once() -> None:
    return None
