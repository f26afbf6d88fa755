"""
LLM servers that fail as each request names it, for what is measured of failures.

    python -m bench.failures.failing_backend [--refuse-continuing] PORT...

The servers of one process are peers: they have the same models and say the same. A chat whose first
message begins with `[cut 17]` meets the behaviour `cut` in try 17. Whichever server is asked first
in a try is the one that fails in it, and the others are well: so no router is better off for the
server that it prefers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import uvloop
from aiohttp import web

from bench.harness.backend import MODEL
from tests.support import answers
from tests.support.answers import WORDS, Asked, Json
from tests.support.script import error, reset

#: A model that no server can continue an answer of.
UNCONTINUED = "bench-model-uncontinued"
#: Where a server hands out how it was asked since the last look, and which try it was.
ATTEMPTS_PATH = "/_bench/attempts"
#: How it says that it can't go on with an answer.
PREFILL_REFUSED = "invalid_prefill"

_NAMED = re.compile(r"^\[([a-z0-9 ]+?) (\d+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Behaviour of a server, and what goes wrong. Times are seconds; a word is a token."""

    words: int = 60
    #: Until the first word, and between two.
    first: float = 0.05
    interval: float = 0.015
    #: Answer at once with this status.
    status: int | None = None
    code: str = "scripted"
    retry_after: int | None = None
    #: Reset the connection before anything is said.
    resets: bool = False
    #: Say nothing for so long, then hang up.
    silent: float = 0.0
    #: What happens before this word of an answer, or in the middle of one that is not streamed.
    breaks_at: int | None = None
    breaks: Literal["cut", "stall", "malformed", "error event"] = "cut"
    stall: float = 30.0
    ends_without_done: bool = False
    #: Only so many attempts of a try meet it, or only those within so long of the first.
    times: int | None = None
    lasts: float | None = None


#: By the name that a request gives.
BEHAVIOURS = {
    "good": Behaviour(),
    "rate limited once": Behaviour(status=429, code="rate_limit_exceeded", retry_after=2, times=1),
    "rate limited": Behaviour(status=429, code="rate_limit_exceeded"),
    "500 once": Behaviour(status=500, times=1),
    "500": Behaviour(status=500),
    "502": Behaviour(status=502),
    "503": Behaviour(status=503, code="overloaded"),
    "reset once": Behaviour(resets=True, times=1),
    "silent": Behaviour(silent=120.0),
    "late": Behaviour(first=20.0),
    "cut": Behaviour(breaks_at=40),
    "stall": Behaviour(breaks_at=20, breaks="stall"),
    "malformed": Behaviour(breaks_at=10, breaks="malformed"),
    "error event": Behaviour(breaks_at=10, breaks="error event"),
    "no done": Behaviour(ends_without_done=True),
    "too long": Behaviour(status=400, code="context_length_exceeded"),
    "filtered": Behaviour(status=400, code="content_policy_violation"),
    "down": Behaviour(status=503, code="overloaded", lasts=60.0),
    "down shortly": Behaviour(status=503, code="overloaded", lasts=12.0),
    # What good and bad clients ask for beside each other: short, so that many fit into seconds.
    "short": Behaviour(words=4, first=0.1, interval=0.0),
    "short malformed": Behaviour(words=8, interval=0.0, breaks_at=2, breaks="malformed"),
    "short cut": Behaviour(words=8, interval=0.0, breaks_at=2),
    "short error event": Behaviour(words=8, interval=0.0, breaks_at=2, breaks="error event"),
    "long": Behaviour(words=900, interval=1 / 60),
}


@dataclass(slots=True)
class Try:
    """One request of a client, however often its router asks."""

    #: The server that was asked first, and when.
    failing: int
    since: float
    attempts: int = 0


@dataclass(slots=True)
class Peers:
    """State that the servers of this process share."""

    tries: dict[str, Try] = field(default_factory=dict)
    log: list[Json] = field(default_factory=list)

    def meet(self, name: str, number: str, server: int, now: float) -> Behaviour:
        """Return how a server behaves to an attempt of a try; ``now`` in seconds of one clock."""
        behaviour = BEHAVIOURS[name]
        one = self.tries.setdefault(f"{name} {number}", Try(server, now))
        if server != one.failing:
            return well(behaviour)
        one.attempts += 1
        is_over = behaviour.times is not None and one.attempts > behaviour.times
        is_over |= behaviour.lasts is not None and now - one.since >= behaviour.lasts
        return well(behaviour) if is_over else behaviour


def well(behaviour: Behaviour) -> Behaviour:
    """Return the same answer without anything that goes wrong."""
    return Behaviour(
        words=behaviour.words,
        first=min(behaviour.first, Behaviour().first),
        interval=behaviour.interval,
    )


def said(words: int) -> tuple[str, ...]:
    """Return what all of them say: the same text for everybody, so that a mixed one shows."""
    return tuple(f" {WORDS[at % len(WORDS)]}{at}" for at in range(words))


class Hung(Exception):
    """The server hangs up in the middle."""


class Server:
    """One of the peers."""

    def __init__(self, place: int, peers: Peers, *, continues: bool) -> None:
        self._place = place
        self._peers = peers
        self._continues = continues

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get(ATTEMPTS_PATH, self._hand_out)
        app.router.add_post("/apply-template", self._template)
        app.router.add_post("/v1/chat/completions", self._chat)
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        first, last = body["messages"][0], body["messages"][-1]
        named = _NAMED.match(str(first["content"]))
        name, number = named.groups() if named else ("good", "0")
        now = time.monotonic()
        behaviour = self._peers.meet(name, number, self._place, now)
        begun = str(last["content"]) if last["role"] == "assistant" else ""
        attempt = {"try": f"{name} {number}", "server": self._place, "at": now}
        self._peers.log.append({**attempt, "begun": len(begun.split())})
        if behaviour.status is not None:
            return _refusal(behaviour)
        if behaviour.resets:
            reset(request)
            return web.Response()
        if behaviour.silent:
            await asyncio.sleep(behaviour.silent)
            _hang_up(request)
            return web.Response()
        if begun and not self._can_continue(body["model"]):
            return error(400, "The chat must end with the user's message.", PREFILL_REFUSED)
        words = said(behaviour.words)[len(begun.split()) :]
        answer = answers.chat(Asked(body, len(words), emoji=False, said=words))
        if body.get("stream"):
            return await _stream(request, answer, behaviour)
        return await _whole(request, answer, behaviour)

    def _can_continue(self, model: str) -> bool:
        return self._continues and model != UNCONTINUED

    async def _template(self, request: web.Request) -> web.Response:
        """Return a chat as a prompt, in the form of llama.cpp's /apply-template."""
        body = await request.json()
        if not self._can_continue(body["model"]):
            return error(404, "There is no such route.", "not_found")
        return web.json_response({"prompt": body["messages"][-1]["content"]})

    async def _models(self, request: web.Request) -> web.Response:
        same = {"object": "model", "created": 1, "owned_by": "bench"}
        data = [{"id": model, **same} for model in (MODEL, UNCONTINUED)]
        return web.json_response({"object": "list", "data": data})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _hand_out(self, request: web.Request) -> web.Response:
        log, self._peers.log = self._peers.log, []
        return web.json_response(log)


def _refusal(behaviour: Behaviour) -> web.Response:
    assert behaviour.status is not None
    response = error(behaviour.status, f"scripted {behaviour.status}", behaviour.code)
    if behaviour.retry_after is not None:
        response.headers["Retry-After"] = str(behaviour.retry_after)
    return response


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


async def _stream(
    request: web.Request, answer: answers.Answer, behaviour: Behaviour
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    await asyncio.sleep(behaviour.first)
    await response.write(b"".join(answer.head))
    for at, step in enumerate(answer.steps):
        if at == behaviour.breaks_at:
            try:
                await _break(response, behaviour)
            except Hung:
                _hang_up(request)
                return response
        await response.write(step)
        if behaviour.interval:
            await asyncio.sleep(behaviour.interval)
    await response.write(b"".join(answer.tail[:-1] if behaviour.ends_without_done else answer.tail))
    await response.write_eof()
    return response


async def _break(response: web.StreamResponse, behaviour: Behaviour) -> None:
    """Do in the middle of a stream what goes wrong. Raises Hung."""
    if behaviour.breaks == "malformed":
        await response.write(b'data: {"choices": [{"delta\n\n')
        return
    if behaviour.breaks == "error event":
        await response.write(answers.event(_failed()) + b"data: [DONE]\n\n")
    elif behaviour.breaks == "stall":
        await asyncio.sleep(behaviour.stall)
    raise Hung


async def _whole(
    request: web.Request, answer: answers.Answer, behaviour: Behaviour
) -> web.StreamResponse:
    """Return an answer that is not streamed: what goes wrong in the middle of it is in its body."""
    await asyncio.sleep(behaviour.first + behaviour.interval * len(answer.steps))
    text = json.dumps(answer.whole).encode()
    if behaviour.breaks_at is None:
        return web.Response(body=text, content_type="application/json")
    if behaviour.breaks == "error event":
        return web.json_response(_failed())
    if behaviour.breaks == "malformed":
        return web.Response(body=text[: len(text) // 2], content_type="application/json")
    response = web.StreamResponse(headers={"content-type": "application/json"})
    response.content_length = len(text)
    await response.prepare(request)
    await response.write(text[: len(text) // 2])
    if behaviour.breaks == "stall":
        await asyncio.sleep(behaviour.stall)
    _hang_up(request)
    return response


def _failed() -> dict[str, Any]:
    error = {"message": "scripted failure", "type": "server_error", "param": None, "code": 500}
    return {"error": error}


async def serve(ports: list[int], *, continues: bool) -> None:
    """Serve on the loopback address, for ever."""
    peers = Peers()
    async with AsyncExitStack() as stack:
        for place, port in enumerate(ports):
            app = Server(place, peers, continues=continues).app()
            runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve LLMs that fail as they are asked to.")
    parser.add_argument("ports", type=int, nargs="+", metavar="PORT")
    parser.add_argument("--refuse-continuing", action="store_true")
    flags = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(flags.ports, continues=not flags.refuse_continuing))


if __name__ == "__main__":
    main()
