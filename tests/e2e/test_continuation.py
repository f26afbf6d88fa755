"""A stream outlives its provider: killed, stopped or broken off, its client sees one answer."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest

from inferline.local.llm import model as real_model
from inferline.streams.sse import EventParser, is_done
from tests.support.line import MODEL, Line, empty_line, running_line
from tests.support.llm import start_line

QUICK = {"INFERLINE_LEASE_SECONDS": "2", "INFERLINE_SILENT_SECONDS": "60"}
CHATS = "/v1/chat/completions"
TEXTS = "/v1/completions"


class Stream:
    """One stream as its client reads it."""

    def __init__(self, line: Line, path: str, **body: Any) -> None:
        self._client = httpx.Client(timeout=60)
        asked = {"model": MODEL, "stream": True, "stream_options": {"include_usage": True}}
        request = self._client.build_request("POST", line.url + path, json={**asked, **body})
        self._response = self._client.send(request, stream=True)
        assert 200 == self._response.status_code, self._response.read()
        self._parser = EventParser()
        self.documents: list[dict[str, Any]] = []
        self.done = False
        self._reading = self._read()

    def _read(self) -> Iterator[None]:
        for data in self._response.iter_bytes():
            for event in self._parser.feed(data):
                assert not self.done
                self.done = is_done(event)
                if not self.done:
                    self.documents.append(json.loads(event.data))
            yield

    def until(self, events: int) -> None:
        """Read so many events."""
        while len(self.documents) < events:
            next(self._reading)

    def end(self) -> str:
        """Read the rest; gives the whole text, after a look at what is around it."""
        with closing(self._client), closing(self._response):
            for _ in self._reading:
                pass
        assert self.done
        assert 1 == len({(one["id"], one["model"]) for one in self.documents})
        choices = [choice for one in self.documents for choice in one["choices"]]
        assert 1 == len([choice for choice in choices if choice["finish_reason"]])
        assert choices[-1]["finish_reason"]
        assert self.documents[-1]["usage"]
        said = [one["delta"].get("content") if "delta" in one else one["text"] for one in choices]
        return "".join(text or "" for text in said)

    @property
    def usage(self) -> dict[str, Any]:
        usage = dict(self.documents[-1]["usage"])
        usage.pop("prompt_tokens_details", None)
        return usage


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    """Yield a scripted LLM server and one provider at a time."""
    options = ("--first-token-seconds", "0.02", "--tokens-per-second", "20")
    with running_line(*options, **QUICK) as running:
        yield running


@pytest.fixture(scope="module")
def real_line() -> Iterator[Line]:
    """Yield the same with llama.cpp."""
    with empty_line() as running:
        running.environ.update(QUICK)
        start_line(running, slots=2, context=1024)
        running.start_provider("p1")
        yield running


#: Asked to stop, a provider finishes what it has; asked twice, it hands that back at once.
HOW = {
    "killed": [signal.SIGKILL],
    "asked to stop": [signal.SIGTERM, signal.SIGTERM],
    "frozen": [signal.SIGSTOP],
}


@contextmanager
def lost(line: Line, how: str) -> Iterator[None]:
    """Yield the line's provider goes, and another comes."""
    provider = [part for part in line.parts if part.name == "provider"][-1]
    for number in HOW[how]:
        provider.process.send_signal(number)
        time.sleep(0.1)  # Two signals at once would be one.
    line.start_provider(f"p{len(line.parts)}")
    try:
        yield
    finally:
        provider.kill()


@pytest.mark.parametrize(
    ("path", "asked", "how"),
    [
        *((CHATS, chat("Hi"), how) for how in HOW),
        (TEXTS, {"prompt": "Once upon a time\n"}, "killed"),
    ],
)
def test_a_stream_outlives_its_provider(
    line: Line, path: str, asked: dict[str, Any], how: str
) -> None:
    asked |= {"x_script": {"tokens": 60}}
    whole = Stream(line, path, **asked)
    text, usage = whole.end(), whole.usage
    calls = line.backend_state()["calls_by_path"][path]

    stream = Stream(line, path, **asked)
    stream.until(8)
    with lost(line, how):
        assert text == stream.end()

    assert usage == stream.usage
    assert calls + 2 == line.backend_state()["calls_by_path"][path]


#: How it goes on is hardly in doubt. Where two words are about as likely, llama.cpp may say the
#: other one when it reads the prompt in other batches, with or without us.
WEEKS = "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday, " * 3 + "Monday,"


@pytest.mark.parametrize(
    ("path", "asked", "how"),
    [
        (CHATS, chat("Count from one to fifty in words."), "killed"),
        (TEXTS, {"prompt": WEEKS}, "asked to stop"),
    ],
)
def test_a_real_models_stream_goes_on_with_what_it_would_have_said(
    real_line: Line, path: str, asked: dict[str, Any], how: str
) -> None:
    asked |= {"model": real_model.ALIAS, "temperature": 0, "max_tokens": 120}
    whole = Stream(real_line, path, **asked)
    text, usage = whole.end(), whole.usage

    stream = Stream(real_line, path, **asked)
    stream.until(12)
    with lost(real_line, how):
        assert text == stream.end()

    assert usage == stream.usage
