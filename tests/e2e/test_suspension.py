"""A flex stream makes room for a better request on the whole line; its client sees no break."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from inferline.local.llm import model as real_model
from tests.e2e.test_continuation import CHATS, TEXTS, Stream, chat
from tests.support.line import MODEL, Line, empty_line, running_line
from tests.support.llm import start_line


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    """Yield a scripted LLM server with one slot."""
    options = ("--first-token-seconds", "0.02", "--tokens-per-second", "20")
    with running_line(*options, slots=1) as running:
        yield running


def better(line: Line, **body: Any) -> str:
    """Return the answer to a request of the tier default."""
    asked = {"model": MODEL, **chat("Now!"), **body}
    response = httpx.post(line.url + CHATS, json=asked, timeout=60)
    assert 200 == response.status_code, response.text
    return str(response.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("path", "asked"), [(CHATS, chat("Hi")), (TEXTS, {"prompt": "Once upon a time\n"})]
)
def test_a_flex_stream_goes_on_behind_a_better_request(
    line: Line, path: str, asked: dict[str, Any]
) -> None:
    asked |= {"x_script": {"tokens": 60}, "service_tier": "flex"}
    whole = Stream(line, path, **asked)
    text, usage = whole.end(), whole.usage

    stream = Stream(line, path, **asked)
    stream.until(8)
    for _ in range(2):
        assert better(line, x_script={"tokens": 4})
        received = len(stream.documents)
        stream.until(received + 8)

    assert text == stream.end()
    assert usage == stream.usage
    assert suspensions(line) >= 2


def suspensions(line: Line) -> int:
    """Return how often the provider has suspended a task."""
    (provider,) = (part for part in line.parts if part.name == "provider")
    return provider.log.count("makes room for a better one")


def test_llama_cpp_goes_on_with_a_flex_stream() -> None:
    with empty_line() as line:
        start_line(line, slots=2, context=1024)
        line.start_provider("p1", None, "--slots", "1")
        named = {"model": real_model.ALIAS, "temperature": 0, "seed": 7}
        asked = {
            **named,
            **chat("Count from one to fifty in words."),
            "max_tokens": 80,
            "service_tier": "flex",
        }
        whole = Stream(line, CHATS, **asked)
        text, usage = whole.end(), whole.usage

        stream = Stream(line, CHATS, **asked)
        stream.until(8)
        assert better(line, **named, max_tokens=4)

        assert text == stream.end()
        assert usage == stream.usage
        assert 1 == suspensions(line)
