"""Through InferLine and directly at the backend, the same request gives the same answer."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from inferline.streams.sse import EventParser
from tests.support.line import MODEL, Line

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"a": {}}}},
}
CHAT = {"messages": [{"role": "user", "content": "Grüße, 世界 😀"}]}
#: What Claude Code asks beside a chat: its last message is one of the system.
AGENT = {
    "max_tokens": 9,
    "messages": [
        *CHAT["messages"],
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
    ],
    "thinking": {"type": "adaptive"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "high"},
}

#: The path, and the body without its model.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("/v1/chat/completions", CHAT),
    "stop": ("/v1/chat/completions", {**CHAT, "stop": ["the", "\n"]}),
    "logprobs": ("/v1/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 2}),
    "tools": ("/v1/chat/completions", {**CHAT, "tools": TOOLS, "tool_choice": "required"}),
    "json schema": ("/v1/chat/completions", {**CHAT, "response_format": SCHEMA}),
    "three choices": ("/v1/chat/completions", {**CHAT, "n": 3}),
    "usage": ("/v1/chat/completions", {**CHAT, "stream_options": {"include_usage": True}}),
    "emoji": ("/v1/chat/completions", {**CHAT, "x_script": {"emoji": True}}),
    "unknown fields": ("/v1/chat/completions", {**CHAT, "seed": 7, "min_p": 0.1, "x": {"y": []}}),
    "large": ("/v1/chat/completions", {**CHAT, "x_script": {"tokens": 3000, "interval": 0}}),
    "one token": ("/v1/chat/completions", {**CHAT, "x_script": {"tokens": 1}}),
    # With probabilities no other attempt could go on: then the error is the client's to see.
    "an error in the stream": (
        "/v1/chat/completions",
        {**CHAT, "logprobs": True, "x_script": {"error_event_after": 3}},
    ),
    "line ends": ("/v1/chat/completions", {**CHAT, "x_script": {"crlf": True, "comments": True}}),
    "completion": ("/v1/completions", {"prompt": "Once", "logprobs": 1, "echo": True}),
    "completions of a list": ("/v1/completions", {"prompt": ["Once", "Twice"]}),
    "responses": ("/v1/responses", {"input": "Hi"}),
    "messages": ("/v1/messages", {**CHAT, "max_tokens": 9}),
    "messages of a coding agent": ("/v1/messages", AGENT),
}
UNSTREAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "embeddings": ("/v1/embeddings", {"input": ["a", "é"]}),
    "embeddings in base64": ("/v1/embeddings", {"input": "a", "encoding_format": "base64"}),
    "rerank": ("/v1/rerank", {"query": "q", "documents": ["a", "b"]}),
    "score": ("/v1/score", {"text_1": "q", "text_2": ["a", "b"]}),
    "tokenize": ("/tokenize", {"prompt": "a b c"}),
}
REFUSED = [400, 404, 409, 413, 422, 451, 501]


def both(line: Line, path: str, body: dict[str, Any]) -> tuple[httpx.Response, httpx.Response]:
    """Return what the backend answers itself, and what comes through InferLine."""
    asked = {"model": MODEL, **body}
    with httpx.Client(timeout=60) as client:
        direct = client.post(line.backend_url + path, json=asked)
        return direct, client.post(line.url + path, json=asked)


def events(response: httpx.Response) -> list[bytes]:
    """Return the events of a stream, without the comments that keep it open."""
    parser = EventParser()
    return [event.raw for event in [*parser.feed(response.content), *parser.close()]]


@pytest.mark.parametrize("name", [*CASES, *UNSTREAMED])
def test_an_answer_is_the_same_to_the_byte(line: Line, name: str) -> None:
    path, body = {**CASES, **UNSTREAMED}[name]
    body = {key: value for key, value in body.items() if key != "stream_options"}

    direct, through = both(line, path, body)

    assert direct.status_code == through.status_code
    assert direct.headers["content-type"] == through.headers["content-type"]
    assert direct.content == through.content
    assert direct.content


@pytest.mark.parametrize("name", CASES)
def test_a_stream_has_the_same_events_to_the_byte(line: Line, name: str) -> None:
    path, body = CASES[name]

    direct, through = both(line, path, {**body, "stream": True})

    assert direct.status_code == through.status_code
    assert direct.headers["content-type"] == through.headers["content-type"]
    assert events(direct) == events(through)
    assert len(events(direct)) > 2


@pytest.mark.parametrize("status", REFUSED)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_the_same_to_the_byte(line: Line, status: int, stream: bool) -> None:
    script = {"status": status, "body": {"error": {"message": "nö", "code": "c", "extra": 1}}}

    direct, through = both(
        line, "/v1/chat/completions", {**CHAT, "stream": stream, "x_script": script}
    )

    assert status == direct.status_code == through.status_code
    assert direct.content == through.content
    assert direct.headers["content-type"] == through.headers["content-type"]


def test_the_backend_gets_the_clients_own_bytes(line: Line) -> None:
    raw = b'{ "model" : "test-model",\n "messages":[{"role":"user","content":"\\u00e9 \xc3\xa9"}]}'

    httpx.post(line.url + "/v1/chat/completions", content=raw, timeout=60).raise_for_status()

    seen = httpx.get(line.backend_url + "/_script/bodies", timeout=60).json()
    assert raw.decode() in [one if isinstance(one, str) else json.dumps(one) for one in seen]


@pytest.mark.parametrize("stream", [False, True])
def test_the_backend_gets_all_that_a_coding_agent_says(line: Line, stream: bool) -> None:
    raw = json.dumps({"model": MODEL, **AGENT, "stream": stream})

    response = httpx.post(line.url + "/v1/messages", content=raw, timeout=60)

    assert 200 == response.status_code
    assert raw in httpx.get(line.backend_url + "/_script/bodies", timeout=60).json()


def test_a_body_too_large_for_a_message_arrives_whole(line: Line) -> None:
    big = {"messages": [{"role": "user", "content": "ü" * 300_000}]}

    direct, through = both(line, "/v1/chat/completions", big)

    assert 200 == through.status_code
    assert direct.content == through.content
