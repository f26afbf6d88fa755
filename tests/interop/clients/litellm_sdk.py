"""LiteLLM's SDK, with an OpenAI-compatible server."""

from __future__ import annotations

import json
import sys

import litellm
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

litellm.telemetry = False
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": TOOL_SCHEMA}}


def ask(text: str = PROMPT, model: str = MODEL, messages=None, **more):
    said = messages or [{"role": "user", "content": text}]
    where = {"api_base": BASE_URL, "api_key": "test", "timeout": 90}
    options = {"temperature": 0, "max_tokens": TOKENS, **more}
    return litellm.completion(model=f"openai/{model}", messages=said, **where, **options)


def read(stream, stop_after: int = sys.maxsize) -> Seen:
    seen: Seen = {"text": "", "pieces": 0}
    for chunk in stream:
        seen["text"] += chunk.choices[0].delta.content or ""
        seen["pieces"] += 1
        if seen["pieces"] >= stop_after:
            break
    return seen


def tools() -> Seen:
    first = ask(tools=[TOOL]).choices[0].message
    [call] = first.tool_calls
    result = get_weather(**json.loads(call.function.arguments))
    back = {"role": "tool", "tool_call_id": call.id, "content": result}
    said = [{"role": "user", "content": PROMPT}, first.model_dump(), back]
    return {"text": ask(messages=said, tools=[TOOL]).choices[0].message.content}


def cancel() -> Seen:
    stream = ask(LONG_PROMPT, stream=True, max_tokens=1000)
    seen = read(stream, CANCELLED_AFTER)
    stream.completion_stream.response.close()
    sys.stdin.read()
    return seen


run(
    {
        "plain": lambda: {"text": ask().choices[0].message.content},
        "stream": lambda: read(ask(stream=True)),
        "tools": tools,
        "error": lambda: {"text": str(ask(model="no-such-model"))},
        "cancel": cancel,
        "long": lambda: read(ask(LONG_PROMPT, stream=True, max_tokens=1000)),
    }
)
