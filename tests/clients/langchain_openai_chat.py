"""LangChain's OpenAI classes, as their users use them."""

from __future__ import annotations

from typing import Any

from langchain_openai import ChatOpenAI, OpenAIEmbeddings
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

observer = Observer()
TEXT = QUESTION[0]["content"]


def llm(*, script: dict[str, Any] | None = None, **options: Any) -> ChatOpenAI:
    chosen = {"model": observer.model, "timeout": 60, **options}
    return ChatOpenAI(
        base_url=observer.base_url,
        api_key="test",
        extra_body={"x_script": script or {}},
        stream_usage=True,
        **chosen,
    )


def chat(script: dict[str, Any] | None = None) -> Seen:
    answer = llm(script=script).invoke(TEXT)
    return {
        "text": answer.content,
        "finish": answer.response_metadata["finish_reason"],
        "total_tokens": answer.usage_metadata["total_tokens"],
    }


def stream(script: dict[str, Any] | None = None) -> Seen:
    seen: Seen = {"text": "", "finish": None, "events": 0, "total_tokens": None}
    try:
        for chunk in llm(script=script).stream(TEXT):
            seen["events"] += 1
            seen["text"] += chunk.content
            seen["finish"] = chunk.response_metadata.get("finish_reason") or seen["finish"]
            if chunk.usage_metadata:
                seen["total_tokens"] = chunk.usage_metadata["total_tokens"]
    except Exception as error:  # noqa: BLE001 - whichever it is, it is what the user gets
        seen |= describe(error)
    return seen


def tools() -> Seen:
    [call] = llm().bind_tools([TOOL]).invoke(TEXT).tool_calls
    return {"name": call["name"], "arguments": call["args"], "id": call["id"]}


def embeddings() -> Seen:
    embedder = OpenAIEmbeddings(
        model=observer.model,
        base_url=observer.base_url,
        api_key="test",
        # Else it would fetch a tokenizer, and send tokens where the server wants text.
        check_embedding_ctx_length=False,
    )
    return {"vectors": embedder.embed_documents(["a b", "c"])}


def structured() -> Seen:
    schema = {
        "title": "answer",
        "type": "object",
        "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
    }
    return {"value": llm().with_structured_output(schema, method="json_schema").invoke(TEXT)}


def unknown_model() -> Seen:
    return {"text": llm(model="no-such-model").invoke(TEXT).content}


def no_provider() -> Seen:
    return {"text": llm(model=observer.unserved, max_retries=1).invoke(TEXT).content}


def timeout() -> Seen:
    llm(script=HANGS, timeout=1, max_retries=0).invoke(TEXT)
    return {}


observer.see_meanwhile("no_provider", no_provider)
observer.see("chat", chat)
observer.see("stream", stream)
observer.see("emoji", lambda: chat({"emoji": True}))
observer.see("emoji_stream", lambda: stream({"emoji": True}))
observer.see("tools", tools)
observer.see("structured", structured)
observer.see("embeddings", embeddings)
observer.see("unknown_model", unknown_model)
observer.see("refused", lambda: chat(REFUSED))
observer.see("breaks", lambda: stream(BREAKS))
observer.see("dies", lambda: stream(DIES))
observer.see_timeout(timeout)
observer.see("fails_once", lambda: chat(FAILS_ONCE))
observer.see("fails_for_good", lambda: chat(FAILS_FOR_GOOD))
observer.finish()
