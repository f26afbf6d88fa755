"""LangChain's ChatOpenAI."""

from __future__ import annotations

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
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI


def llm(model: str = MODEL, tokens: int = TOKENS) -> ChatOpenAI:
    where = {"base_url": BASE_URL, "api_key": "test", "timeout": 90}
    return ChatOpenAI(model=model, temperature=0, max_tokens=tokens, **where)


def read(text: str, tokens: int, stop_after: int = sys.maxsize) -> Seen:
    seen: Seen = {"text": "", "pieces": 0}
    stream = llm(tokens=tokens).stream(text)
    for chunk in stream:
        seen["text"] += chunk.content
        seen["pieces"] += 1
        if seen["pieces"] >= stop_after:
            stream.close()
            break
    return seen


def tools() -> Seen:
    able = llm().bind_tools([get_weather])
    first = able.invoke(PROMPT)
    [call] = first.tool_calls
    result = ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"])
    return {"text": able.invoke([HumanMessage(PROMPT), first, result]).content}


def cancel() -> Seen:
    seen = read(LONG_PROMPT, 1000, CANCELLED_AFTER)
    sys.stdin.read()
    return seen


run(
    {
        "plain": lambda: {"text": llm().invoke(PROMPT).content},
        "stream": lambda: read(PROMPT, TOKENS),
        "tools": tools,
        "error": lambda: {"text": llm("no-such-model").invoke(PROMPT).content},
        "cancel": cancel,
        "long": lambda: read(LONG_PROMPT, 1000),
    }
)
