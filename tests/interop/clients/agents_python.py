"""openai-agents (Python) on the Responses API, which it takes unless told otherwise."""

from __future__ import annotations

import asyncio
import sys

import agents
from asking import (
    BASE_URL,
    CANCELLED_AFTER,
    LONG_PROMPT,
    MODEL,
    PROMPT,
    TOKENS,
    Seen,
    get_weather,
    run,
)
from openai import AsyncOpenAI

agents.set_default_openai_client(AsyncOpenAI(base_url=BASE_URL, api_key="test", timeout=90))
agents.set_tracing_disabled(True)


def agent(model: str = MODEL, tokens: int = TOKENS, tools=()) -> agents.Agent:
    settings = agents.ModelSettings(temperature=0, max_tokens=tokens)
    return agents.Agent(name="a", model=model, model_settings=settings, tools=list(tools))


async def read(text: str, tokens: int, stop_after: int = sys.maxsize) -> Seen:
    seen: Seen = {"text": "", "pieces": 0}
    result = agents.Runner.run_streamed(agent(tokens=tokens), text)
    async for event in result.stream_events():
        if getattr(event.data if event.type == "raw_response_event" else None, "type", "") == (
            "response.output_text.delta"
        ):
            seen["text"] += event.data.delta
            seen["pieces"] += 1
        if seen["pieces"] >= stop_after:
            result.cancel()
            break
    return seen


async def cancel() -> Seen:
    seen = await read(LONG_PROMPT, 1000, CANCELLED_AFTER)
    await asyncio.to_thread(sys.stdin.read)
    return seen


def ask(**options) -> Seen:
    return {"text": agents.Runner.run_sync(agent(**options), PROMPT).final_output}


run(
    {
        "plain": ask,
        "stream": lambda: asyncio.run(read(PROMPT, TOKENS)),
        "tools": lambda: ask(tools=[agents.function_tool(get_weather)], tokens=200),
        "error": lambda: ask(model="no-such-model"),
        "cancel": lambda: asyncio.run(cancel()),
        "long": lambda: asyncio.run(read(LONG_PROMPT, 1000)),
    }
)
