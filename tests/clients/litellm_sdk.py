"""LiteLLM's SDK, as its users use it."""

from __future__ import annotations

import os
from typing import Any

# Else it would fetch a price list from the network when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from observing import (
    BREAKS,
    DIES,
    FAILS_FOR_GOOD,
    FAILS_ONCE,
    HANGS,
    QUESTION,
    REFUSED,
    TOOL,
    Observer,
    Seen,
    describe,
)

litellm.suppress_debug_info = True
observer = Observer()


def ask(*, script: dict[str, Any] | None = None, **fields: Any) -> Any:
    asked = {"model": f"openai/{observer.model}", "messages": QUESTION, "timeout": 60, **fields}
    return litellm.completion(
        api_base=observer.base_url,
        api_key="test",
        extra_body={"x_script": script or {}},
        **asked,
    )


def chat(script: dict[str, Any] | None = None) -> Seen:
    answer = ask(script=script)
    [choice] = answer.choices
    return {
        "text": choice.message.content,
        "finish": choice.finish_reason,
        "total_tokens": answer.usage.total_tokens,
    }


def stream(script: dict[str, Any] | None = None) -> Seen:
    seen: Seen = {"text": "", "finish": None, "events": 0, "total_tokens": None}
    try:
        for chunk in ask(script=script, stream=True, stream_options={"include_usage": True}):
            seen["events"] += 1
            if usage := getattr(chunk, "usage", None):
                seen["total_tokens"] = usage.total_tokens
            for choice in chunk.choices:
                seen["text"] += choice.delta.content or ""
                seen["finish"] = choice.finish_reason or seen["finish"]
    except Exception as error:  # noqa: BLE001 - whichever it is, it is what the user gets
        seen |= describe(error)
    return seen


def tools() -> Seen:
    [call] = ask(tools=[TOOL]).choices[0].message.tool_calls
    return {"name": call.function.name, "arguments": call.function.arguments, "id": call.id}


def embeddings() -> Seen:
    answer = litellm.embedding(
        model=f"openai/{observer.model}",
        input=["a b", "c"],
        api_base=observer.base_url,
        api_key="test",
        encoding_format="float",
    )
    return {"vectors": [item["embedding"] for item in answer.data]}


def unknown_model() -> Seen:
    return {"text": str(ask(model="openai/no-such-model"))}


def no_provider() -> Seen:
    return {"text": str(ask(model=f"openai/{observer.unserved}", max_retries=1))}


def timeout() -> Seen:
    ask(script=HANGS, timeout=1, max_retries=0)
    return {}


observer.see("chat", chat)
# Only now: LiteLLM imports half of itself at its first call, and not for two threads at once.
observer.see_meanwhile("no_provider", no_provider)
observer.see("stream", stream)
observer.see("emoji", lambda: chat({"emoji": True}))
observer.see("emoji_stream", lambda: stream({"emoji": True}))
observer.see("tools", tools)
observer.see("embeddings", embeddings)
observer.see("unknown_model", unknown_model)
observer.see("refused", lambda: chat(REFUSED))
observer.see("breaks", lambda: stream(BREAKS))
observer.see("dies", lambda: stream(DIES))
observer.see_timeout(timeout)
observer.see("fails_once", lambda: chat(FAILS_ONCE))
observer.see("fails_for_good", lambda: chat(FAILS_FOR_GOOD))
observer.finish()
