"""openai-python, as its users use it; runs under both of its major versions."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import openai
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

LINES = b'{"custom_id": "a"}\n' * 1000

observer = Observer()
client = openai.OpenAI(base_url=observer.base_url, api_key="test", timeout=60)


def ask(*, script: dict[str, Any] | None = None, **fields: Any) -> Any:
    asked = {"model": observer.model, "messages": QUESTION, **fields}
    return client.chat.completions.create(**asked, extra_body={"x_script": script or {}})


def chat(script: dict[str, Any] | None = None) -> Seen:
    answer = ask(script=script)
    [choice] = answer.choices
    return {
        "text": choice.message.content,
        "finish": choice.finish_reason,
        "total_tokens": answer.usage.total_tokens,
        "request_id": answer._request_id,
    }


def stream(script: dict[str, Any] | None = None) -> Seen:
    seen: Seen = {"text": "", "finish": None, "events": 0, "total_tokens": None}
    try:
        for chunk in ask(script=script, stream=True, stream_options={"include_usage": True}):
            seen["events"] += 1
            if chunk.usage:
                seen["total_tokens"] = chunk.usage.total_tokens
            for choice in chunk.choices:
                seen["text"] += choice.delta.content or ""
                seen["finish"] = choice.finish_reason or seen["finish"]
    except openai.APIError as error:
        seen |= describe(error)
    return seen


def several() -> Seen:
    texts = ["", ""]
    for chunk in ask(stream=True, n=2):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    whole = [choice.message.content for choice in ask(n=2).choices]
    return {"streamed": texts, "whole": whole}


def tools() -> Seen:
    [call] = ask(tools=[TOOL]).choices[0].message.tool_calls
    return {"name": call.function.name, "arguments": call.function.arguments, "id": call.id}


def tools_stream() -> Seen:
    seen: Seen = {"name": None, "arguments": "", "id": None, "finish": None}
    for chunk in ask(tools=[TOOL], stream=True):
        for choice in chunk.choices:
            seen["finish"] = choice.finish_reason or seen["finish"]
            for call in choice.delta.tool_calls or []:
                seen["id"] = call.id or seen["id"]
                seen["name"] = call.function.name or seen["name"]
                seen["arguments"] += call.function.arguments or ""
    return seen


def completion() -> Seen:
    asked: dict[str, Any] = {"model": observer.model, "prompt": "Once", "max_tokens": 5}
    whole = client.completions.create(**asked).choices[0]
    streamed = client.completions.create(**asked, stream=True)
    text = "".join(chunk.choices[0].text for chunk in streamed)
    return {"text": whole.text, "finish": whole.finish_reason, "streamed": text}


def embeddings() -> Seen:
    answer = client.embeddings.create(model=observer.model, input=["a b", "c"])
    return {"vectors": [item.embedding for item in answer.data]}


def responses() -> Seen:
    asked: dict[str, Any] = {"model": observer.model, "input": "Who?"}
    whole = client.responses.create(**asked)
    text, last = "", ""
    for event in client.responses.create(**asked, stream=True):
        last = event.type
        text += event.delta if last == "response.output_text.delta" else ""
    return {"text": whole.output_text, "streamed": text, "last": last}


def models() -> Seen:
    return {"ids": [model.id for model in client.models.list()]}


def files() -> Seen:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lines.jsonl")
        path.write_bytes(LINES)
        made = [
            client.files.create(file=file, purpose="batch")
            for file in (path, LINES, io.BytesIO(LINES), path, path)
        ]
    ids = [file.id for file in made]
    return {
        "names": [file.filename for file in made],
        "status": client.files.wait_for_processing(ids[0]).status,
        "is_listed": sorted(ids) == [f.id for f in client.files.list(limit=2, order="asc")],
        "is_same": all(client.files.content(each).read() == LINES for each in ids),
        "deleted": [client.files.delete(each).deleted for each in ids],
    }


def no_provider() -> Seen:
    asked: dict[str, Any] = {"model": observer.unserved, "messages": QUESTION}
    return {"text": str(client.with_options(max_retries=1).chat.completions.create(**asked))}


def timeout() -> Seen:
    impatient = client.with_options(timeout=1, max_retries=0)
    asked: dict[str, Any] = {"model": observer.model, "messages": QUESTION}
    impatient.chat.completions.create(**asked, extra_body={"x_script": HANGS})
    return {}


observer.see_meanwhile("no_provider", no_provider)
observer.see("models", models)
observer.see("files", files)
observer.see("chat", chat)
observer.see("stream", stream)
observer.see("emoji", lambda: chat({"emoji": True}))
observer.see("emoji_stream", lambda: stream({"emoji": True}))
observer.see("crlf_stream", lambda: stream({"crlf": True, "comments": True}))
observer.see("several", several)
observer.see("tools", tools)
observer.see("tools_stream", tools_stream)
observer.see("completion", completion)
observer.see("embeddings", embeddings)
observer.see("responses", responses)
observer.see("unknown_model", lambda: {"text": str(ask(model="no-such-model"))})
observer.see("refused", lambda: chat(REFUSED))
observer.see("breaks", lambda: stream(BREAKS))
observer.see("dies", lambda: stream(DIES))
observer.see_timeout(timeout)
observer.see("fails_once", lambda: chat(FAILS_ONCE))
observer.see("fails_for_good", lambda: chat(FAILS_FOR_GOOD))
observer.finish()
