"""anthropic-python on the Messages API."""

from __future__ import annotations

import sys

import anthropic
from asking import (
    CANCELLED_AFTER,
    LONG_PROMPT,
    MODEL,
    PROMPT,
    ROOT_URL,
    TOKENS,
    TOOL_SCHEMA,
    Seen,
    get_weather,
    run,
)

client = anthropic.Anthropic(base_url=ROOT_URL, api_key="test", timeout=90)
#: Its second major version has no parameter of that name any more.
COLD = {"extra_body": {"temperature": 0}}
TOOL = {"name": "get_weather", "description": "The weather.", "input_schema": TOOL_SCHEMA}


def said(text: str) -> list:
    return [{"role": "user", "content": text}]


def ask(messages=None, model: str = MODEL, **more):
    options = {"max_tokens": TOKENS, **COLD, **more}
    return client.messages.create(model=model, messages=messages or said(PROMPT), **options)


def read(stop_after: int = sys.maxsize, text: str = PROMPT, tokens: int = TOKENS) -> Seen:
    seen: Seen = {"text": "", "pieces": 0}
    asked = {"model": MODEL, "messages": said(text), "max_tokens": tokens, **COLD}
    with client.messages.stream(**asked) as stream:
        for piece in stream.text_stream:
            seen["text"] += piece
            seen["pieces"] += 1
            if seen["pieces"] >= stop_after:
                break
    return seen


def tools() -> Seen:
    first = ask(tools=[TOOL], max_tokens=200)
    [call] = first.content
    result = {"type": "tool_result", "tool_use_id": call.id, "content": get_weather(**call.input)}
    messages = [
        *said(PROMPT),
        {
            "role": "assistant",
            "content": [call.model_dump(include={"type", "id", "name", "input"})],
        },
        {"role": "user", "content": [result]},
    ]
    return {"text": ask(messages, tools=[TOOL]).content[0].text}


def cancel() -> Seen:
    seen = read(CANCELLED_AFTER, LONG_PROMPT, 1000)
    sys.stdin.read()
    return seen


run(
    {
        "list": lambda: {"models": [model.id for model in client.models.list()]},
        "plain": lambda: {"text": ask().content[0].text},
        "stream": read,
        "tools": tools,
        "error": lambda: {"text": str(ask(model="no-such-model"))},
        "cancel": cancel,
        "long": lambda: read(text=LONG_PROMPT, tokens=1000),
    }
)
