"""Compares what a provider makes of a line's stream with the server's own plain answer."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from inferline_provider.faults import CannotContinueHere
from tests.interop.cells import Cell, check, yes
from tests.support.folding import differences, folded, given_up

CHATS, TEXTS = "/v1/chat/completions", "/v1/completions"
#: The first request with `logprobs` has vLLM compile for minutes.
ANSWER_SECONDS_MAX = 300
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Erzähl mir von 東京 😀"}]}
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Say hi."}]}
TEXT: dict[str, Any] = {"prompt": "Once upon a time"}
SHAPE = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": SHAPE}}
LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHATS, {**CHAT, "max_tokens": 12}),
    "chat to its end": (CHATS, {**HELLO, "max_tokens": 60}),
    "empty chat": (CHATS, {**CHAT, "stop": ["I", "E", "D"], "max_tokens": 12}),
    "logprobs": (CHATS, {**CHAT, "max_tokens": 3, "logprobs": True, "top_logprobs": 2}),
    "schema": (CHATS, {**CHAT, "response_format": SCHEMA, "max_tokens": 40}),
    "completion": (TEXTS, {**TEXT, "max_tokens": 12}),
    "completion with logprobs": (TEXTS, {**TEXT, "max_tokens": 3, "logprobs": 2}),
    "tokens": (TEXTS, {"prompt": [1, 2, 3], "max_tokens": 4}),
    "refused": (CHATS, {**CHAT, "temperature": "hot"}),
}
RESUMED = (CHATS, {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 40})
#: After so many tokens it is given up.
GIVEN_UP_AFTER = (10, 20)


def cell(url: str, model: str) -> Cell:
    """Return the cell: a folded answer has the fields of the plain one, a resumed one its words."""
    places = [_compared(url, model, name) for name in LINES]
    answers = [place for place in places if place is not None]
    check(answers, "it answers no line")
    note = f"the same answers to {len(answers)} lines"
    if empty := set().union(*answers):
        note += f", but for {len(empty)} fields that only one has, without a value"
    return yes(f"{note}; {_resumed(url, model)}")


def _compared(url: str, model: str, name: str) -> set[str] | None:
    """Return where the two answers differ by fields without a value; None if it is refused."""
    path, fields = LINES[name]
    body = {"model": model, "temperature": 0, "seed": 7, **fields}
    plain = httpx.post(url + path, json=body, timeout=ANSWER_SECONDS_MAX)
    if plain.status_code >= 500:
        return None  # To the provider that is a fault of the server.
    status, document = asyncio.run(folded(url, path, body))
    check(status == plain.status_code, f"{name}: {status} instead of {plain.status_code}")
    if not plain.is_success:
        check(document == plain.json(), f"{name}: another refusal")
        return None
    differing = list(differences(plain.json(), document))
    wrong = [place for place, is_empty in differing if not is_empty]
    check(not wrong, f"{name}: other {', '.join(wrong)}")
    return {place for place, _ in differing}


def _resumed(url: str, model: str) -> str:
    """Return how a line ends that was given up in its middle, twice."""
    path, fields = RESUMED
    body = {"model": model, "temperature": 0, "seed": 7, **fields}
    _, whole = asyncio.run(folded(url, path, body))
    try:
        _, resumed = asyncio.run(given_up(url, path, body, GIVEN_UP_AFTER))
    except CannotContinueHere:
        return "a line that was given up begins anew"
    same = resumed["choices"] == whole["choices"]
    check(resumed["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"], "usage")
    return f"a line that was given up goes on with {'the same' if same else 'other'} words"
