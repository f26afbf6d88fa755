"""openai-python on chat completions."""

from __future__ import annotations

import json
import sys

import openai
from asking import (
    BASE_URL,
    CANCELLED_AFTER,
    LONG_PROMPT,
    MODEL,
    PROMPT,
    TOKENS,
    TOOL_SCHEMA,
    Seen,
    get_weather,
    run,
)

client = openai.OpenAI(base_url=BASE_URL, api_key="test", timeout=90)
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": TOOL_SCHEMA}}


def ask(text: str = PROMPT, model: str = MODEL, **more):
    said = [{"role": "user", "content": text}]
    options = {"temperature": 0, "max_tokens": TOKENS, **more}
    return client.chat.completions.create(model=model, messages=said, **options)


def plain() -> Seen:
    return {"text": ask().choices[0].message.content}


def read(stream, stop_after: int = sys.maxsize) -> Seen:
    seen: Seen = {"text": "", "pieces": 0}
    for chunk in stream:
        for choice in chunk.choices:
            seen["text"] += choice.delta.content or ""
            seen["pieces"] += 1
        if seen["pieces"] >= stop_after:
            stream.close()
            break
    return seen


def tools() -> Seen:
    first = ask(tools=[TOOL]).choices[0].message
    [call] = first.tool_calls
    result = get_weather(**json.loads(call.function.arguments))
    answer = {"role": "tool", "tool_call_id": call.id, "content": result}
    said = [{"role": "user", "content": PROMPT}, first, answer]
    last = client.chat.completions.create(model=MODEL, messages=said, tools=[TOOL])
    return {"text": last.choices[0].message.content}


def cancel() -> Seen:
    seen = read(ask(LONG_PROMPT, stream=True, max_tokens=1000), CANCELLED_AFTER)
    # A process that ends closes its connections; this one is to do so before.
    sys.stdin.read()
    return seen


run(
    {
        "list": lambda: {"models": [model.id for model in client.models.list()]},
        "plain": plain,
        "stream": lambda: read(ask(stream=True)),
        "tools": tools,
        "error": lambda: {"text": str(ask(model="no-such-model"))},
        "cancel": cancel,
        "long": lambda: read(ask(LONG_PROMPT, stream=True, max_tokens=1000)),
    }
)
