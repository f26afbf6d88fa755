"""The oracle sees what must never be: a run that finds nothing wrong would else mean nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chaos.oracle import Heard, judge

DONE = b"data: [DONE]\n\n"
LOST = {"message": "m", "type": "server_error", "param": None, "code": "provider_lost"}


def event(text: str = "", finish: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "a", "choices": [choice], **fields}).encode() + b"\n\n"


def token(number: int, *, request: str = "r1", run: str = "s1", backend: str = "b0") -> bytes:
    return event(f" {request}.{backend}.{run}.{number}")


def paid(completion: int = 2, prompt: int = 1) -> bytes:
    usage = {"completion_tokens": completion, "prompt_tokens": prompt}
    return b"data: " + json.dumps({"id": "a", "choices": [], "usage": usage}).encode() + b"\n\n"


def failed() -> bytes:
    return b"data: " + json.dumps({"error": LOST}).encode() + b"\n\n"


def whole(tokens: int) -> dict[str, Any]:
    text = "".join(f" r1.b0.s1.{number}" for number in range(tokens))
    usage = {"completion_tokens": tokens, "prompt_tokens": 1}
    return {"choices": [{"text": text, "finish_reason": "stop"}], "usage": usage}


def stream(*events: bytes, whole: bool = True) -> Any:
    heard = Heard(200, "text/event-stream; charset=utf-8", b"".join(events), whole)
    return judge(heard, "r1", 2, streamed=True)


def test_a_whole_stream_is_an_answer() -> None:
    heard = stream(b": ping\n\n", token(0), token(1), event(finish="stop"), paid(), DONE)

    assert ("ok", 2, 1, []) == (heard.end, heard.tokens, heard.runs, heard.wrongs)


def test_a_stream_that_another_run_has_continued_is_an_answer() -> None:
    heard = stream(token(0), token(1, run="c2", backend="b1"), event(finish="stop"), paid(), DONE)

    assert ("ok", 2, 2, []) == (heard.end, heard.tokens, heard.runs, heard.wrongs)


def test_a_stream_that_ends_in_an_error_is_a_clean_error() -> None:
    heard = stream(token(0), failed())

    assert ("error", "provider_lost", 1, []) == (
        heard.end,
        heard.code,
        heard.tokens,
        heard.wrongs,
    )


@pytest.mark.parametrize(
    ("wrong", "events"),
    [
        ("mixed attempts", [token(0), token(1, run="s2"), event(finish="stop"), DONE]),
        ("mixed attempts", [token(0, run="c1"), token(1, run="c1"), event(finish="stop"), DONE]),
        ("repeated text", [token(0), token(0), token(1), event(finish="stop"), DONE]),
        ("missing text", [token(1), token(2), event(finish="stop"), DONE]),
        ("another request's text", [token(0), token(1, request="r2"), event(finish="stop"), DONE]),
        ("text that no backend has made", [token(0), event(" x"), token(1), DONE]),
        ("a truncated success", [token(0), event(finish="stop"), DONE]),
        ("a truncated stream that looks complete", [token(0), token(1)]),
        ("more than was asked for", [*map(token, range(3)), event(finish="stop"), DONE]),
        ("0 finishes", [token(0), token(1), DONE]),
        ("2 finishes", [token(0), token(1), event(finish="stop"), event(finish="stop"), DONE]),
        ("0 usages", [token(0), token(1), event(finish="stop"), DONE]),
        ("a false usage: (3, 1)", [token(0), token(1), event(finish="stop"), paid(3), DONE]),
        ("a false usage: (2, 9)", [token(0), token(1), event(finish="stop"), paid(2, 9), DONE]),
        ("an event after [DONE]", [token(0), token(1), event(finish="stop"), DONE, DONE]),
        ("something after the error", [token(0), failed(), token(1)]),
        ("an event that is not JSON", [token(0), b"data: {\n\n", failed()]),
        ("several ids", [token(0), event(" r1.b0.s1.1", id="b"), event(finish="stop"), DONE]),
    ],
)
def test_what_must_never_be_in_a_stream_is_seen(wrong: str, events: list[bytes]) -> None:
    assert wrong in stream(*events).wrongs


def test_a_connection_that_broke_is_told_from_a_stream_that_ended() -> None:
    heard = stream(token(0), whole=False)

    assert ("cut", []) == (heard.end, heard.wrongs)


@pytest.mark.parametrize(
    ("end", "wrongs", "status", "document"),
    [
        ("error", [], 503, {"error": LOST}),
        ("error", ["a status 500 without an OpenAI error"], 500, {"detail": "oops"}),
        ("ok", [], 200, whole(2)),
        ("ok", ["a truncated success"], 200, whole(1)),
        ("ok", ["a false usage: (None, None)"], 200, {**whole(2), "usage": None}),
    ],
)
def test_a_document_is_an_answer_or_an_error(
    end: str, wrongs: list[str], status: int, document: dict[str, Any]
) -> None:
    raw = json.dumps(document).encode()

    heard = judge(Heard(status, "application/json", raw, whole=True), "r1", 2, streamed=False)

    assert (end, wrongs) == (heard.end, heard.wrongs)
