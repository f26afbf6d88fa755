"""Asks an OpenAI-compatible server over HTTP, streams included, and keeps all that it said."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from inferline.streams.sse import EventParser, is_done

ANSWER_SECONDS_MAX = 120
#: What differs between two answers to the same question, whoever gives them.
_OF_ONE_ANSWER = ("id", "created", "timings", "x_request_id")


@dataclass
class Stream:
    """One stream as far as it has been read."""

    response: httpx.Response
    events: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False

    def __post_init__(self) -> None:
        self._reading = self._read()

    def _read(self) -> Iterator[None]:
        parser = EventParser()
        for data in self.response.iter_bytes():
            for event in parser.feed(data):
                if is_done(event):
                    self.done = True
                elif event.data:
                    self.events.append(json.loads(event.data))
            yield

    def until(self, events: int) -> None:
        """Read so many events, or to the end."""
        while len(self.events) < events and next(self._reading, self) is not self:
            pass

    def end(self) -> None:
        """Read the rest."""
        for _ in self._reading:
            pass

    @property
    def text(self) -> str:
        """Return all words of the first choice."""
        return "".join(
            (choice.get("delta") or {}).get("content") or ""
            for event in self.events
            for choice in event.get("choices") or []
        )

    @property
    def finish(self) -> str | None:
        """Return why the answer ended, if it did."""
        reasons = [
            choice.get("finish_reason")
            for event in self.events
            for choice in event.get("choices") or []
        ]
        return next((reason for reason in reversed(reasons) if reason), None)

    @property
    def error(self) -> dict[str, Any] | None:
        """Return the error that it ended with."""
        errors = (event.get("error") for event in self.events)
        return next((error for error in errors if error), None)

    def comparable(self) -> list[dict[str, Any]]:
        """Return the events without what is of this one answer only."""
        return [
            {name: value for name, value in event.items() if name not in _OF_ONE_ANSWER}
            for event in self.events
        ]


@dataclass(frozen=True)
class Asking:
    """One server, and one of its models."""

    url: str
    model: str

    def chat(self, text: str, **more: Any) -> dict[str, Any]:
        """Return the body of a request that has the same answer each time."""
        said = [{"role": "user", "content": text}]
        return {"model": self.model, "messages": said, "temperature": 0, "max_tokens": 24, **more}

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """Ask, and wait for the whole answer."""
        return httpx.post(self.url + path, json=body, timeout=ANSWER_SECONDS_MAX)

    def say(self, text: str, **more: Any) -> str:
        """Return the words of a whole answer. Raises httpx.HTTPStatusError."""
        answer = self.post("/v1/chat/completions", self.chat(text, **more))
        answer.raise_for_status()
        return str(answer.json()["choices"][0]["message"]["content"])

    @contextmanager
    def stream(self, text: str, **more: Any) -> Iterator[Stream]:
        """Yield a stream, closed with the block whether it has ended or not."""
        body = self.chat(text, stream=True, **more)
        url = self.url + "/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=ANSWER_SECONDS_MAX) as response:
            if response.status_code != 200:
                response.read()
                response.raise_for_status()
            yield Stream(response)


def seconds_since(start: float) -> str:
    """Return how long ago ``start`` was, to be read."""
    return f"{time.monotonic() - start:.1f} s"
