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
TEXT: dict[str, Any] = {"prompt": "Once upon a time"}
SHAPE = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": SHAPE}}
LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHATS, {**CHAT, "max_tokens": 12}),
    "chat to its end": (CHATS, {"messages": [{"role": "user", "content": "Say hi."}]}),
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
    nulls: set[str] = set()
    refused = []
    for name, (path, fields) in LINES.items():
        body = {"model": model, "temperature": 0, "seed": 7, **fields}
        plain = httpx.post(url + path, json=body, timeout=ANSWER_SECONDS_MAX)
        status, document = asyncio.run(folded(url, path, body))
        check(status == plain.status_code, f"{name}: {status} instead of {plain.status_code}")
        if not plain.is_success:
            refused.append(name)
            check(document == plain.json(), f"{name}: another refusal")
            continue
        differing = list(differences(plain.json(), document))
        wrong = [place for place, is_null in differing if not is_null]
        check(not wrong, f"{name}: other {', '.join(wrong)}")
        nulls |= {place for place, _ in differing}
    note = f"the same answers to {len(LINES)} lines"
    note += f", {len(refused)} of them refused" if len(refused) > 1 else ""
    if nulls:
        note += f", without {len(nulls)} fields that are null in the plain ones"
    return yes(f"{note}; {_resumed(url, model)}")


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
