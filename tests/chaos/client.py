"""Real HTTP clients: what they ask, how they read, and when they leave."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import aiohttp

from tests.chaos.backend import MODEL
from tests.chaos.oracle import End, Heard, Outcome, judge
from tests.support.pace import within

#: How long past its deadline a request may end, seconds; longer on a busy machine.
LATE_SECONDS = 2.0
#: Between two tries to reach a gateway that is not there.
AGAIN_SECONDS = 0.1


#: What a client does when its connection broke, or its gateway is about to end: nothing; send the
#: request again, as SDKs do; the same with an Idempotency-Key; or go on with the stream there.
ComesBack = Literal["never", "retries", "has a key", "resumes"]
#: What a gateway says that is asked to end: another one goes on.
STOPPING = "gateway_stopping"
#: How often it does.
RETURNS_MAX = 5


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of the mix."""

    name: str
    path: str
    streamed: bool
    tokens: int
    #: Between two tokens at the backend, seconds.
    interval: float
    #: Characters of the prompt; a large one waits in S3.
    prompt_chars: int = 20
    #: Between two reads, seconds.
    read_pause: float = 0.0
    #: The client leaves so long after it asked.
    leaves_after: float | None = None
    comes_back: ComesBack = "never"
    #: What the backend is to do, besides, and what else is asked.
    script: tuple[tuple[str, Any], ...] = ()
    extra: tuple[tuple[str, Any], ...] = ()

    def body(self) -> dict[str, Any]:
        """Return the JSON that is posted."""
        script = {"tokens": self.tokens, "interval": self.interval, **dict(self.script)}
        prompt = "p" * self.prompt_chars
        body: dict[str, Any] = {"model": MODEL, "user": self.name, "x_script": script}
        body |= dict(self.extra)
        if self.streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if self.path.endswith("/chat/completions"):
            return body | {"messages": [{"role": "user", "content": prompt}]}
        return body | {"prompt": prompt}


def mixed(rng: random.Random, number: int, *, inline_chars_max: int) -> Ask:
    """Return the request of that number in a seeded mix."""
    long = rng.random() < 0.35
    streamed = rng.random() < 0.65
    return Ask(
        name=f"r{number}",
        path=rng.choice(["/v1/chat/completions", "/v1/completions"]),
        streamed=streamed,
        tokens=rng.randint(25, 80) if long else rng.randint(1, 12),
        interval=rng.choice([0.01, 0.02, 0.04]) if long else 0.005,
        prompt_chars=inline_chars_max + 1 if rng.random() < 0.1 else 20,
        read_pause=0.1 if streamed and rng.random() < 0.15 else 0.0,
        leaves_after=rng.uniform(0.01, 1.0) if rng.random() < 0.1 else None,
        comes_back=rng.choice(get_args(ComesBack)),
    )


@dataclass(frozen=True, slots=True)
class Cut:
    """A connection that broke: which gateway's, and when it was made, by the loop's clock."""

    url: str
    begun: float


@dataclass(frozen=True, slots=True)
class Trip:
    """End of one request, and the connections that broke on the way."""

    outcome: Outcome
    cuts: tuple[Cut, ...] = ()
    #: How often the client came back for it.
    returns: int = 0


class Client:
    """
    Asks one of the gateways that ``pick`` gives, as a load balancer would.

    ``excused`` tells how many seconds AWS or a gateway stood still since a moment of the loop's
    clock.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        pick: Callable[[], str],
        deadline_seconds: float,
        excused: Callable[[float], float] = lambda since: 0.0,
    ) -> None:
        self._session = session
        self._pick = pick
        self._patience_seconds = deadline_seconds + within(LATE_SECONDS)
        self._excused = excused

    async def ask(self, ask: Ask) -> Trip:
        """Ask, and come back where the gateway is gone, if the client is one that does."""
        cuts: list[Cut] = []
        returns = 0
        before: Heard | None = None
        while True:
            heard, cut = await self._exchange(ask, before, returns)
            if heard is None:
                end: End = "late" if ask.leaves_after is None else "left"
                return Trip(Outcome(end), tuple(cuts), returns)
            if before is not None and heard.is_stream:
                heard.raw = before.complete + heard.raw
            outcome = judge(heard, ask.name, ask.tokens, streamed=ask.streamed)
            if outcome.end == "cut":
                cuts.append(cut)
            elif outcome.code != STOPPING:
                return Trip(outcome, tuple(cuts), returns)
            if ask.comes_back == "never" or returns == RETURNS_MAX:
                return Trip(outcome, tuple(cuts), returns)
            returns += 1
            if ask.comes_back == "resumes" and heard.is_stream:
                before = replace(heard, raw=heard.without_error)

    async def _exchange(
        self, ask: Ask, before: Heard | None, returns: int
    ) -> tuple[Heard | None, Cut]:
        """
        Return what a gateway said, None if the client left or nothing came in time, and where that
        was.

        ``before`` is what was heard of the stream that is to go on.
        """
        loop = asyncio.get_running_loop()
        while True:
            url, begun = self._pick(), loop.time()
            hearing = asyncio.create_task(self._heard(url, ask, before, returns))
            if not await self._comes(hearing, begun, ask.leaves_after):
                return None, Cut(url, begun)
            heard = hearing.result()
            if heard is not None:
                return heard, Cut(url, begun)
            # Nobody was there, so nobody has taken the request.
            await asyncio.sleep(AGAIN_SECONDS)

    async def _comes(
        self, hearing: asyncio.Task[Heard | None], begun: float, leaves_after: float | None
    ) -> bool:
        """Return whether an answer ends before the client goes, or has waited for too long."""
        loop = asyncio.get_running_loop()
        while not hearing.done():
            seconds = leaves_after
            if seconds is None:
                seconds = self._patience_seconds + self._excused(begun)
            left = begun + seconds - loop.time()
            if left <= 0:
                hearing.cancel()
                await asyncio.wait({hearing})
                return False
            await asyncio.wait({hearing}, timeout=left)
        return True

    async def _heard(self, url: str, ask: Ask, before: Heard | None, returns: int) -> Heard | None:
        """Return what the gateway said; None when it could not be reached."""
        heard = Heard(0, "", b"", whole=False)
        pieces: list[bytes] = []
        try:
            async with self._sent(url, ask, before, returns) as response:
                heard.status = response.status
                heard.content_type = response.headers.get("content-type", "")
                heard.task = response.headers.get("x-request-id", "")
                async for piece in response.content.iter_any():
                    pieces.append(piece)
                    if ask.read_pause:
                        await asyncio.sleep(ask.read_pause)
                heard.whole = True
        except aiohttp.ClientConnectorError:
            return None
        except (aiohttp.ClientError, OSError):
            pass
        heard.raw = b"".join(pieces)
        return heard

    def _sent(
        self, url: str, ask: Ask, before: Heard | None, returns: int
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if before is not None:
            after = str(before.events)
            return self._session.get(
                f"{url}/v1/tasks/{before.task}/stream", params={"after": after}
            )
        headers = {}
        if ask.comes_back == "has a key":
            headers["idempotency-key"] = ask.name
        elif returns:
            headers["x-stainless-retry-count"] = str(returns)
        return self._session.post(url + ask.path, json=ask.body(), headers=headers)
