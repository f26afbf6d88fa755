"""A backend that speaks when the machine says so, and whose every word tells who said it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from inferline.http.errors import HungUp

#: How many words a whole answer has.
WORDS = 3
PROMPT = "Say something."


@dataclass(eq=False)
class Sample:
    """One answer that a backend computes. ``given`` is the text that it was asked to go on from."""

    number: int
    given: str
    streamed: bool
    status: int = 200
    spoken: int = 0
    over: bool = False
    _out: asyncio.Queue[bytes | Exception | None] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.spoken = len(self.given.split())
        if self.status != 200:
            error = {"message": "scripted", "type": "t", "param": None, "code": "c"}
            self._end(json.dumps({"error": error}).encode())

    def word(self, index: int) -> str:
        return f" {self.number}.{index}"

    def speak(self) -> None:
        """Say the next word, if there is one and anybody would hear it."""
        if self.streamed and not self.over and self.spoken < WORDS:
            self._put(self.word(self.spoken))
            self.spoken += 1

    def finish(self) -> None:
        """Say the rest."""
        if self.over:
            return
        words = [self.word(index) for index in range(self.spoken, WORDS)]
        if self.streamed:
            for text in words:
                self._put(text)
            self._put("", "stop")
            self._end(b"data: [DONE]\n\n")
        else:
            self._end(json.dumps(_answer("".join(words), "stop")).encode())

    def break_off(self, *, cleanly: bool) -> None:
        """Say nothing more: the connection ends."""
        if not self.over:
            self.over = True
            self._out.put_nowait(None if cleanly else HungUp())

    async def pieces(self) -> AsyncGenerator[bytes]:
        while (piece := await self._out.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def _put(self, text: str, finish_reason: str | None = None) -> None:
        event = json.dumps(_answer(text, finish_reason)).encode()
        self._out.put_nowait(b"data: " + event + b"\n\n")

    def _end(self, last: bytes) -> None:
        self.over = True
        self._out.put_nowait(last)
        self._out.put_nowait(None)


def _answer(text: str, finish_reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
    return {"id": "x", "object": "text_completion", "model": "m", "choices": [choice]}


class _Response:
    def __init__(self, sample: Sample) -> None:
        streams = sample.streamed and sample.status == 200
        kind = "text/event-stream" if streams else "application/json"
        self.status = sample.status
        self.headers = {"content-type": kind}
        self.pieces = sample.pieces


@dataclass
class Backend:
    """The backend that a provider asks. `samples` are those of all backends, `own` this one's."""

    samples: list[Sample]
    #: With which status it answers the next request.
    status: int = 200
    own: list[Sample] = field(default_factory=list)

    @asynccontextmanager
    async def post(
        self, path: str, body: bytes, silence: float, traceparent: str = "", **forwarded: Any
    ) -> AsyncIterator[Any]:
        asked = json.loads(body)
        given = asked["prompt"].removeprefix(PROMPT)
        sample = Sample(len(self.samples), given, bool(asked.get("stream")), self.status)
        self.status = 200
        self.samples.append(sample)
        self.own.append(sample)
        try:
            yield _Response(sample)
        finally:
            sample.over = True

    async def prefill(self, model: str, text: str, shape: object) -> Mapping[str, bool]:
        return {}

    async def count_tokens(self, model: str, text: str) -> int:
        return len(text.split())
