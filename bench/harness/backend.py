"""
The scripted LLM server of the measurements: it tells when each answer began and ended, and spends
as little as can be on a token, so that the machine is left to the routers.

    python -m bench.harness.backend --port P [--first-token-seconds S] [--tokens N]
        [--tokens-per-second N]

It speaks HTTP on asyncio's own protocols and has the events of an answer ready before they are due.
What it says is what `tests.support.answers` makes of the request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import uvloop

from tests.support import answers
from tests.support.answers import Asked

#: What every contender is asked for.
MODEL = "bench-model"
PATH = b"/v1/chat/completions"
#: In so many equal steps the first token sways.
SWAY_STEPS = 4
#: Different requests whose answers are kept ready.
PREPARED_MAX = 64
SEED = 7
#: Of the project's own prose, the longest.
PROSE = Path(__file__).parents[2] / "docs/architecture.md"
BACKLOG = 4096

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_MODELS = {
    "object": "list",
    "data": [{"id": MODEL, "object": "model", "owned_by": "vllm", "max_model_len": 4096}],
}


@dataclass(frozen=True, slots=True)
class Script:
    """When it says what: seconds, tokens a second (0: all at once), and tokens."""

    first: float = 0.05
    #: By so many seconds the first token sways: each answer's comes a step later than that of the
    #: one before, and after the last step the first one's turn is again. A router that looks for
    #: news by the clock would else be lucky or unlucky every time alike.
    sway: float = 0.0
    per_second: float = 25.0
    tokens: int = 32
    #: Lengths are spread evenly by this share of ``tokens`` up and down, so that answers that
    #: began together do not end together.
    vary: float = 0.0
    #: Whether it says prose, instead of a few words again and again.
    prose: bool = False

    @property
    def interval(self) -> float:
        """Return the seconds between two tokens."""
        return 1 / self.per_second if self.per_second else 0.0

    @property
    def tokens_max(self) -> int:
        """Return the tokens of the longest answer."""
        return round(self.tokens * (1 + self.vary))


class Prepared:
    """The answers to one request: the same tokens, however many."""

    def __init__(self, body: dict[str, Any], tokens_max: int, *, prose: bool = False) -> None:
        self._body = body
        self._said = prose_tokens() if prose else None
        self.streamed = bool(body.get("stream"))
        whole = self._answer(tokens_max)
        #: The events of each token but the last, as chunks of HTTP.
        self.steps = [chunked(event) for event in whole.steps] if self.streamed else []
        if self.streamed:
            self.steps[0] = _STREAM_HEAD + chunked(b"".join(whole.head)) + self.steps[0]
        self.last = lru_cache(maxsize=None)(self._last)
        self.whole = lru_cache(maxsize=None)(self._whole)

    def _last(self, tokens: int) -> bytes:
        """Return the event of the last of so many tokens, and the end."""
        answer = self._answer(tokens)
        begin = _STREAM_HEAD + chunked(b"".join(answer.head)) if tokens == 1 else b""
        rest = answer.steps[tokens - 1] + b"".join(answer.tail)
        return begin + chunked(rest) + b"0\r\n\r\n"

    def _whole(self, tokens: int) -> bytes:
        """Return all of so many tokens, not streamed."""
        return said(self._answer(tokens).whole)

    def _answer(self, tokens: int) -> answers.Answer:
        text = None if self._said is None else self._said[:tokens]
        return answers.chat(Asked(self._body, tokens, emoji=False, said=text))


@lru_cache(maxsize=1)
def prose_tokens() -> tuple[str, ...]:
    """Return a text of people's in pieces of about a token each: what shrinks as an answer does."""
    text = PROSE.read_text()
    return tuple(re.findall(r" ?[A-Za-z]{1,7}| ?[0-9]{1,3}|[^A-Za-z0-9]", text))


def chunked(data: bytes) -> bytes:
    """Return some bytes as one chunk of HTTP's chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def said(document: object, status: bytes = b"200 OK") -> bytes:
    """Return a whole response."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(text)) + text


_UNKNOWN = said({}, b"404 Not Found")


class Backend:
    """State that all connections share: the script, prepared answers, and when each was sent."""

    def __init__(self, script: Script) -> None:
        self.script = script
        step = script.sway / (SWAY_STEPS - 1)
        self._firsts = itertools.cycle([script.first + step * turn for turn in range(SWAY_STEPS)])
        self._chance = random.Random(SEED)
        self._prepared = lru_cache(maxsize=PREPARED_MAX)(self._prepare)
        #: When each answer began and ended, milliseconds of this machine's monotonic clock.
        self.spans: list[tuple[float, float]] = []

    def draw(self, body: bytes) -> tuple[Prepared, float, int]:
        """
        Return what to say, seconds until it begins, and in how many tokens. Raises ValueError.
        """
        script = self.script
        share = self._chance.uniform(-script.vary, script.vary) if script.vary else 0.0
        return self._prepared(body), next(self._firsts), max(1, round(script.tokens * (1 + share)))

    def _prepare(self, body: bytes) -> Prepared:
        script = self.script
        return Prepared(json.loads(body), script.tokens_max, prose=script.prose)

    def look(self, path: bytes) -> bytes:
        """Answer a GET."""
        if path == b"/_bench/spans":
            spans, self.spans = self.spans, []
            return said(spans)
        known = {b"/health": {}, b"/v1/models": _MODELS}
        return said(known[path]) if path in known else _UNKNOWN


class Connection(asyncio.Protocol):
    """One client: its requests one after another, each answered by the script."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._loop = asyncio.get_running_loop()
        self._read = b""
        self._began_ms: float | None = None
        self._timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of it.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Break off what is being said, as a server does whose client has gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._ended()

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, blank, rest = self._read.partition(b"\r\n\r\n")
        length = int(length_line[1]) if (length_line := _LENGTH.search(head)) else 0
        if self._began_ms is not None or not blank or len(rest) < length:
            return
        self._read = rest[length:]
        self._closes = _CLOSES.search(head) is not None
        method, path, _ = head.split(b" ", 2)
        if method == b"POST" and path == PATH:
            self._answer(rest[:length])
        else:
            self._finish(self._backend.look(path) if method == b"GET" else _UNKNOWN)

    def _answer(self, body: bytes) -> None:
        self._began_ms = time.monotonic() * 1000
        self._prepared, first, self._tokens = self._backend.draw(body)
        interval = self._backend.script.interval
        self._at = 0
        # The moment of token n is the first one's plus n intervals, so that a late one delays none.
        self._due, self._interval = self._loop.time() + first, interval
        if not self._prepared.streamed:
            self._due += interval * (self._tokens - 1)
        self._timer = self._loop.call_at(self._due, self._say)

    def _say(self) -> None:
        prepared, last = self._prepared, self._tokens - 1
        if not prepared.streamed:
            self._finish(prepared.whole(self._tokens))
        elif self._at == last or not self._interval:
            self._finish(b"".join(prepared.steps[self._at : last]) + prepared.last(self._tokens))
        else:
            self._transport.write(prepared.steps[self._at])
            self._at += 1
            due = self._due + self._interval * self._at
            self._timer = self._loop.call_at(due, self._say)

    def _finish(self, data: bytes) -> None:
        self._transport.write(data)
        self._ended()
        if self._closes:
            self._transport.close()

    def _ended(self) -> None:
        if self._began_ms is not None:
            self._backend.spans.append((self._began_ms, time.monotonic() * 1000))
            self._began_ms = None


async def serve(backend: Backend, port: int) -> None:
    """Serve on the loopback address, for ever."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(backend), "127.0.0.1", port, backlog=BACKLOG
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the scripted LLM of the measurements.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--first-token-seconds", type=float, default=0.05)
    parser.add_argument("--first-token-sway-seconds", type=float, default=0.0)
    parser.add_argument("--tokens-per-second", type=float, default=25.0, help="0: all at once")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--vary", type=float, default=0.0, help="share by which lengths vary")
    parser.add_argument("--prose", action="store_true", help="say a text of people's")
    flags = parser.parse_args()
    script = Script(
        first=flags.first_token_seconds,
        sway=flags.first_token_sway_seconds,
        per_second=flags.tokens_per_second,
        tokens=flags.tokens,
        vary=flags.vary,
        prose=flags.prose,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(Backend(script), flags.port))


if __name__ == "__main__":
    main()
