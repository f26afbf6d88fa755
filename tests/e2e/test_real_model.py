"""The line with a real LLM server: llama.cpp with a small model, asked directly and through it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from inferline.local.llm import model
from inferline.streams.sse import EventParser
from tests.support.folding import folded, given_up
from tests.support.line import Line, empty_line, get_json, until
from tests.support.llm import start_line
from tests.support.pace import within

SLOTS = 4
#: Tokens for each slot.
CONTEXT = 512

#: What llama.cpp draws anew for each call, by the type that it has then: its names for an answer
#: and for the parts of one, and what it reads off the clock. (The `id` of a token is a number and
#: is compared.) Everything else must be the same.
DRAWN_PER_CALL: dict[str, type] = {
    "id": str,
    "item_id": str,
    "created": int,
    "created_at": int,
    "completed_at": int,
    "timings": dict,
}

#: One answer only, and the same work for it each time: a prompt half read from a cache is computed
#: in other batches, and its last digits differ.
SAME = {"model": model.ALIAS, "temperature": 0, "seed": 7, "cache_prompt": False}
CHAT = {"messages": [{"role": "user", "content": "Erzähl mir von 東京 😀"}], "max_tokens": 12}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}, "big": {"type": "boolean"}},
    "required": ["city", "big"],
    "additionalProperties": False,
}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}

CHATS: dict[str, dict[str, Any]] = {
    "text": CHAT,
    "stop": {**CHAT, "stop": ["a", "e", "i"]},
    "logprobs": {**CHAT, "logprobs": True, "top_logprobs": 3},
    "json schema": {**CHAT, "response_format": JSON_SCHEMA, "max_tokens": 40},
    "two choices": {**CHAT, "n": 2},
    "usage": {**CHAT, "stream_options": {"include_usage": True}},
}
#: The path, and the body without what all have.
STREAMED: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: ("/v1/chat/completions", body) for name, body in CHATS.items()},
    "completion": ("/v1/completions", {"prompt": "Once upon", "max_tokens": 8, "logprobs": 2}),
    "responses": ("/v1/responses", {"input": "Hi", "max_output_tokens": 8}),
    "messages": ("/v1/messages", {**CHAT, "max_tokens": 8}),
}
UNSTREAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "completions of a list": ("/v1/completions", {"prompt": ["One", "Two"], "max_tokens": 4}),
    "embeddings": ("/v1/embeddings", {"input": ["tea", "チャ"]}),
    "embeddings in base64": ("/v1/embeddings", {"input": "tea", "encoding_format": "base64"}),
    "tokens": ("/tokenize", {"content": "a b ç 😀"}),
}
TOO_LONG = [{"role": "user", "content": "word " * 2 * CONTEXT}]
#: The body, and what llama.cpp says is wrong with it.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "too long": ({**CHAT, "messages": TOO_LONG}, "exceed_context_size_error"),
    "temperature": ({**CHAT, "temperature": "hot"}, "invalid_request_error"),
    "choices": ({**CHAT, "n": 2 * SLOTS}, "invalid_request_error"),
    "format": ({**CHAT, "response_format": {"type": "none"}}, "invalid_request_error"),
}


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    """Yield a gateway and a provider that was told nothing but where llama.cpp is."""
    with empty_line() as line:
        start_line(line, slots=SLOTS, context=CONTEXT)
        line.start_provider("p1")
        yield line


def both(line: Line, path: str, body: dict[str, Any]) -> tuple[httpx.Response, httpx.Response]:
    """Return what llama.cpp answers itself, and what comes through InferLine."""
    # Once for nothing: /v1/messages drops `cache_prompt` and tells what the cache had.
    ask(line.backend_url, path, body)
    return ask(line.backend_url, path, body), ask(line.url, path, body)


def ask(url: str, path: str, body: dict[str, Any]) -> httpx.Response:
    """Return one request on a connection of its own: llama.cpp closes those it promised to keep."""
    with httpx.Client(timeout=60, headers={"connection": "close"}) as client:
        return client.post(url + path, json={**SAME, **body})


def lasting(document: Any) -> Any:
    """Return the document without what is drawn for each call; that it is there is compared."""
    if isinstance(document, dict):
        return {
            key: "drawn" if isinstance(value, DRAWN_PER_CALL.get(key, ())) else lasting(value)
            for key, value in document.items()
        }
    return [lasting(value) for value in document] if isinstance(document, list) else document


def text_of(response: httpx.Response) -> str:
    """Return a JSON answer for comparison, the order of its fields included."""
    return json.dumps(lasting(response.json()))


def events_of(response: httpx.Response) -> list[tuple[bytes | None, str]]:
    """Return a stream for comparison: each event's name and data."""
    parser = EventParser()
    events = [*parser.feed(response.content), *parser.close()]
    return [
        (event.event, "[DONE]" if event.data == b"[DONE]" else text_of_data(event.data))
        for event in events
    ]


def text_of_data(data: bytes) -> str:
    return json.dumps(lasting(json.loads(data)))


@pytest.mark.parametrize("name", [*STREAMED, *UNSTREAMED])
def test_an_answer_is_the_same(line: Line, name: str) -> None:
    path, body = {**STREAMED, **UNSTREAMED}[name]
    body = {key: value for key, value in body.items() if key != "stream_options"}

    direct, through = both(line, path, body)

    assert 200 == direct.status_code == through.status_code
    assert direct.headers["content-type"] == through.headers["content-type"]
    assert text_of(direct) == text_of(through)
    assert len(text_of(direct)) > 20


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_has_the_same_events(line: Line, name: str) -> None:
    path, body = STREAMED[name]

    direct, through = both(line, path, {**body, "stream": True})

    assert 200 == direct.status_code == through.status_code
    assert direct.headers["content-type"] == through.headers["content-type"]
    assert events_of(direct) == events_of(through)
    assert len(events_of(direct)) > 2


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_the_same_to_the_byte(line: Line, name: str, stream: bool) -> None:
    body, kind = REFUSED[name]

    direct, through = both(line, "/v1/chat/completions", {**body, "stream": stream})

    assert 400 == direct.status_code == through.status_code
    assert direct.headers["content-type"] == through.headers["content-type"]
    assert direct.content == through.content
    assert kind == direct.json()["error"]["type"]


FOLDED = ("text", "stop", "logprobs", "json schema", "completion")


@pytest.mark.parametrize("name", FOLDED)
async def test_a_folded_stream_is_the_plain_answer(line: Line, name: str) -> None:
    path, body = STREAMED[name]
    body = {**SAME, **body}

    plain = ask(line.backend_url, path, body)
    status, document = await folded(line.backend_url, path, body)

    assert 200 == plain.status_code == status
    assert lasting(plain.json()) == lasting(document)


@pytest.mark.parametrize("name", ["too long", "temperature", "format"])
async def test_a_folded_refusal_is_the_plain_one(line: Line, name: str) -> None:
    body = {**SAME, **REFUSED[name][0]}
    plain = ask(line.backend_url, "/v1/chat/completions", body)
    status, document = await folded(line.backend_url, "/v1/chat/completions", body)

    assert 400 == plain.status_code == status
    assert plain.json() == document


@pytest.mark.parametrize(
    ("path", "prompt"),
    [("/v1/chat/completions", CHAT), ("/v1/completions", {"prompt": "Once upon a time"})],
)
async def test_a_line_that_was_given_up_twice_has_the_same_answer(
    line: Line, path: str, prompt: dict[str, Any]
) -> None:
    body = {"model": model.ALIAS, "temperature": 0, "seed": 7, **prompt, "max_tokens": 40}

    _, whole = await folded(line.backend_url, path, body)
    _, resumed = await given_up(line.backend_url, path, body, [10, 20])

    assert whole["choices"] == resumed["choices"]
    assert 40 == resumed["usage"]["completion_tokens"]
    assert whole["usage"]["prompt_tokens"] == resumed["usage"]["prompt_tokens"]


def test_what_the_answers_hold_is_what_was_asked_for(line: Line) -> None:
    """The comparisons would also hold if llama.cpp did not do what they are about."""
    schema, logprobs, choices, usage = (
        ask(line.url, "/v1/chat/completions", {**CHATS[name], "stream": name == "usage"})
        for name in ("json schema", "logprobs", "two choices", "usage")
    )

    assert {"city", "big"} == set(json.loads(schema.json()["choices"][0]["message"]["content"]))
    assert 3 == len(logprobs.json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"])
    assert [0, 1] == [choice["index"] for choice in choices.json()["choices"]]
    assert 12 == json.loads(events_of(usage)[-2][1])["usage"]["completion_tokens"]


def test_the_slots_are_those_that_the_backend_has(line: Line) -> None:
    assert SLOTS == get_json(f"{line.backend_url}/props")["total_slots"]
    assert SLOTS == line.providers()["p1"]["slots"]


def test_the_model_is_listed_with_its_context_length(line: Line) -> None:
    [listed] = get_json(f"{line.url}/v1/models")["data"]

    assert (model.ALIAS, CONTEXT) == (listed["id"], listed["context_length"])


def test_openai_python_streams_an_answer(line: Line) -> None:
    asked: Any = {"model": model.ALIAS, **CHAT, "stream": True, "extra_body": SAME}
    with openai.OpenAI(base_url=f"{line.url}/v1", api_key="any") as client:
        chunks = list(client.chat.completions.create(**asked))

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    direct = ask(line.backend_url, "/v1/chat/completions", CHAT)
    assert direct.json()["choices"][0]["message"]["content"] == text
    assert text


def test_a_client_that_leaves_a_stream_frees_the_slot_within_a_second(line: Line) -> None:
    body = {**SAME, **CHAT, "max_tokens": CONTEXT - 100, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{line.url}/v1/chat/completions", json=body, timeout=60) as response:
        next(response.iter_raw())
        assert 1 == busy(line)

    left = time.monotonic()
    until(lambda: not busy(line), "the slot is free")
    assert time.monotonic() - left < within(1.0)


def busy(line: Line) -> int:
    """Return how many of llama.cpp's slots are at work."""
    return sum(slot["is_processing"] for slot in get_json(f"{line.backend_url}/slots"))
