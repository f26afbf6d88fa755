"""openai-python on the Responses API."""

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
TOOL = {"type": "function", "name": "get_weather", "parameters": TOOL_SCHEMA, "strict": False}


def ask(text=PROMPT, model: str = MODEL, **more):
    options = {"temperature": 0, "max_output_tokens": TOKENS, **more}
    return client.responses.create(model=model, input=text, **options)


def read(stream, stop_after: int = sys.maxsize) -> Seen:
    seen: Seen = {"text": "", "pieces": 0}
    for event in stream:
        if event.type == "response.output_text.delta":
            seen["text"] += event.delta
            seen["pieces"] += 1
        if event.type in ("response.failed", "error"):
            seen["error"] = str(event)
        if seen["pieces"] >= stop_after:
            stream.close()
            break
    return seen


def tools() -> Seen:
    said = [{"role": "user", "content": PROMPT}]
    first = ask(said, tools=[TOOL], max_output_tokens=200)
    [call] = first.output
    result = get_weather(**json.loads(call.arguments))
    back = {"type": "function_call_output", "call_id": call.call_id, "output": result}
    last = ask([*said, call.model_dump(exclude_none=True), back], tools=[TOOL])
    return {"text": last.output_text}


def cancel() -> Seen:
    seen = read(ask(LONG_PROMPT, stream=True, max_output_tokens=1000), CANCELLED_AFTER)
    sys.stdin.read()
    return seen


run(
    {
        "plain": lambda: {"text": ask().output_text},
        "stream": lambda: read(ask(stream=True)),
        "tools": tools,
        "error": lambda: {"text": str(ask(model="no-such-model"))},
        "cancel": cancel,
        "long": lambda: read(ask(LONG_PROMPT, stream=True, max_output_tokens=1000)),
    }
)
