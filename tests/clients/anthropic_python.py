"""Anthropic's SDK, as its users use it: its base URL is the gateway's, and it adds /v1/messages."""

from __future__ import annotations

from typing import Any

import anthropic
from observing import (
    DIES,
    FAILS_FOR_GOOD,
    FAILS_ONCE,
    HANGS,
    QUESTION,
    REFUSED,
    Observer,
    Seen,
    describe,
)

observer = Observer()
client = anthropic.Anthropic(
    base_url=observer.base_url.removesuffix("/v1"), api_key="test", timeout=60
)


def ask(
    *, script: dict[str, Any] | None = None, to: anthropic.Anthropic = client, **fields: Any
) -> Any:
    asked = {"model": observer.model, "messages": QUESTION, "max_tokens": 100, **fields}
    return to.messages.create(**asked, extra_body={"x_script": script or {}})


def spent(usage: Any) -> int:
    return int(usage.input_tokens + usage.output_tokens)


def chat(script: dict[str, Any] | None = None) -> Seen:
    answer = ask(script=script)
    [block] = answer.content
    return {"text": block.text, "finish": answer.stop_reason, "total_tokens": spent(answer.usage)}


def stream(script: dict[str, Any] | None = None) -> Seen:
    seen: Seen = {"text": "", "finish": None, "events": 0, "total_tokens": None}
    try:
        for event in ask(script=script, stream=True):
            seen["events"] += 1
            if event.type == "message_start":
                seen["total_tokens"] = spent(event.message.usage)
            elif event.type == "content_block_delta":
                seen["text"] += event.delta.text
            elif event.type == "message_delta":
                seen["finish"] = event.delta.stop_reason
                seen["total_tokens"] += event.usage.output_tokens
    except anthropic.APIError as error:
        seen |= describe(error)
    return seen


def no_provider() -> Seen:
    patient = client.with_options(max_retries=1)
    return {"text": str(ask(to=patient, model=observer.unserved))}


def timeout() -> Seen:
    ask(to=client.with_options(timeout=1, max_retries=0), script=HANGS)
    return {}


def count() -> Seen:
    """Do nothing: the scripted backend has no such address."""
    return {"tokens": client.messages.count_tokens(model=observer.model, messages=QUESTION)}


def models() -> Seen:
    listed = [model.model_dump(mode="json") for model in client.models.list(limit=1)]
    return {"models": listed, "one": client.models.retrieve(observer.model).display_name}


def shape() -> Seen:
    try:
        ask(model="no-such-model")
    except anthropic.NotFoundError as error:
        return {"body": error.body, "request_id": error.request_id, "kind": error.type}
    return {}


observer.see_meanwhile("no_provider", no_provider)
observer.see("chat", chat)
observer.see("stream", stream)
observer.see("emoji", lambda: chat({"emoji": True}))
observer.see("emoji_stream", lambda: stream({"emoji": True}))
observer.see("unknown_model", lambda: {"text": str(ask(model="no-such-model"))})
observer.see("refused", lambda: chat(REFUSED))
observer.see("count", count)
observer.see("models", models)
observer.see("shape", shape)
observer.see("dies", lambda: stream(DIES))
observer.see_timeout(timeout)
observer.see("fails_once", lambda: chat(FAILS_ONCE))
observer.see("fails_for_good", lambda: chat(FAILS_FOR_GOOD))
observer.finish()
