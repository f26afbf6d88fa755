"""pydantic-ai's agents on chat completions."""

from __future__ import annotations

import asyncio
import sys

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
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


def agent(model: str = MODEL, tokens: int = TOKENS, **more) -> Agent:
    provider = OpenAIProvider(base_url=BASE_URL, api_key="test")
    chosen = OpenAIChatModel(model, provider=provider)
    return Agent(chosen, model_settings={"temperature": 0, "max_tokens": tokens}, **more)


async def read(text: str, tokens: int, stop_after: int = sys.maxsize) -> Seen:
    seen: Seen = {"text": "", "pieces": 0}
    async with agent(tokens=tokens).run_stream(text) as result:
        async for piece in result.stream_text(delta=True, debounce_by=None):
            seen["text"] += piece
            seen["pieces"] += 1
            if seen["pieces"] >= stop_after:
                break
    return seen


async def cancel() -> Seen:
    seen = await read(LONG_PROMPT, 1000, CANCELLED_AFTER)
    await asyncio.to_thread(sys.stdin.read)
    return seen


run(
    {
        "plain": lambda: {"text": agent().run_sync(PROMPT).output},
        "stream": lambda: asyncio.run(read(PROMPT, TOKENS)),
        "tools": lambda: {"text": agent(tools=[get_weather]).run_sync(PROMPT).output},
        "error": lambda: {"text": agent("no-such-model").run_sync(PROMPT).output},
        "cancel": lambda: asyncio.run(cancel()),
        "long": lambda: asyncio.run(read(LONG_PROMPT, 1000)),
    }
)
