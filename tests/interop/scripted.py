"""The scripted LLM server of the tests, with tools that agents have: it calls a shell once."""

from __future__ import annotations

import json
from typing import Any

from tests.support import answers, backend, named_answers
from tests.support.answers import Answer, Asked, Json, event, usage_of

#: What comes back from a tool if it has really been run.
PROOF = "interop-42"
#: What agents call their shell; the SDKs' scripts have a tool of the last name.
SHELLS = ("exec_command", "shell_command", "local_shell", "shell", "bash", "Bash", "get_weather")


def chat(asked: Asked) -> Answer:
    """Return a chat's answer: a call first, and words once its result is there."""
    tool = _wanted(asked.body)
    if tool is None:
        return answers.chat(_without_tools(asked))
    name, arguments = tool
    call: Json = {"index": 0, "id": _id("call_", asked), "type": "function"}
    function = {"name": name, "arguments": arguments}
    same = {"id": _id("chatcmpl-", asked), "created": 1_700_000_000, "model": asked.model}
    usage = usage_of(asked.body, 8)
    message = {"role": "assistant", "content": None, "tool_calls": [call | {"function": function}]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    whole = {**same, "object": "chat.completion", "choices": [choice], "usage": usage}

    def chunk(delta: Json, reason: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        return event({**same, "object": "chat.completion.chunk", "choices": choices})

    opening = call | {"function": {"name": name, "arguments": ""}}
    head = (chunk({"role": "assistant", "content": None, "tool_calls": [opening]}),)
    steps = [
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        for piece in _pieces(arguments)
    ]
    tail = [chunk({}, "tool_calls"), b"data: [DONE]\n\n"]
    if (asked.body.get("stream_options") or {}).get("include_usage"):
        last = {**same, "object": "chat.completion.chunk", "choices": [], "usage": usage}
        tail.insert(1, event(last))
    return Answer(whole, head, steps, tuple(tail))


def responses(asked: Asked) -> Answer:
    """Return the same on the Responses API."""
    tool = _wanted(asked.body)
    if tool is None:
        return named_answers.responses(asked)
    name, arguments = tool
    item: Json = {"type": "function_call", "id": _id("fc_", asked), "call_id": _id("call_", asked)}
    item |= {"name": name, "arguments": arguments, "status": "completed"}
    usage = usage_of(asked.body, 8)
    spent = {"input_tokens": usage["prompt_tokens"], "output_tokens": 8}
    spent["total_tokens"] = usage["total_tokens"]
    base: Json = {"id": _id("resp_", asked), "object": "response", "created_at": 1_700_000_000}
    base |= {"model": asked.model, "error": None, "parallel_tool_calls": False}
    base |= {"tool_choice": "auto", "tools": []}
    whole = {**base, "status": "completed", "output": [item], "usage": spent}
    begun = {**base, "status": "in_progress", "output": []}
    where = {"item_id": item["id"], "output_index": 0}
    empty = item | {"arguments": "", "status": "in_progress"}
    events: list[tuple[str, Json]] = [
        ("response.created", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": empty}),
        *[
            ("response.function_call_arguments.delta", {**where, "delta": piece})
            for piece in _pieces(arguments)
        ],
        ("response.function_call_arguments.done", {**where, "name": name, "arguments": arguments}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": whole}),
    ]
    named = [
        event({"type": kind, "sequence_number": number, **rest}, kind)
        for number, (kind, rest) in enumerate(events)
    ]
    return Answer(whole, tuple(named[:2]), tuple(named[2:-3]), tuple(named[-3:]))


def messages(asked: Asked) -> Answer:
    """Return the same on the Messages API."""
    tool = _wanted(asked.body)
    if tool is None:
        return named_answers.messages(asked)
    name, arguments = tool
    block: Json = {"type": "tool_use", "id": _id("toolu_", asked), "name": name}
    usage = usage_of(asked.body, 8)
    spent = {"input_tokens": usage["prompt_tokens"], "output_tokens": 8}
    whole: Json = {"id": _id("msg_", asked), "type": "message", "role": "assistant"}
    whole |= {"model": asked.model, "content": [block | {"input": json.loads(arguments)}]}
    whole |= {"stop_reason": "tool_use", "stop_sequence": None, "usage": spent}
    begun = whole | {"content": [], "stop_reason": None}
    stop = {"stop_reason": "tool_use", "stop_sequence": None}
    opening = {"index": 0, "content_block": block | {"input": {}}}
    events: list[tuple[str, Json]] = [
        ("message_start", {"message": begun}),
        ("content_block_start", opening),
        *[
            ("content_block_delta", {"index": 0, "delta": _json_delta(piece)})
            for piece in _pieces(arguments)
        ],
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": stop, "usage": {"output_tokens": 8}}),
        ("message_stop", {}),
    ]
    named = [event({"type": kind, **rest}, kind) for kind, rest in events]
    return Answer(whole, tuple(named[:2]), tuple(named[2:-3]), tuple(named[-3:]))


def _json_delta(piece: str) -> Json:
    return {"type": "input_json_delta", "partial_json": piece}


def _wanted(body: Json) -> tuple[str, str] | None:
    """
    Return the tool to call and its arguments; None where there is none, or its result is there.
    """
    offered = {}
    for tool in body.get("tools") or ():
        function = tool.get("function") or tool
        schema = function.get("parameters") or function.get("input_schema")
        if function.get("name") and schema:
            offered[function["name"]] = schema
    name = _named(body.get("tool_choice")) or next(filter(offered.get, SHELLS), None)
    if name is None or body.get("tool_choice") == "none" or _has_result(body):
        return None
    return name, json.dumps(_arguments(offered[name]))


def _named(choice: Any) -> str | None:
    """Return the tool that the request insists on."""
    if not isinstance(choice, dict):
        return None
    return (choice.get("function") or choice).get("name")


def _has_result(body: Json) -> bool:
    said = body.get("messages") or body.get("input") or []
    text = json.dumps(said)
    return any(
        mark in text
        for mark in ('"function_call_output"', '"tool_result"', '"role": "tool"')
    )  # fmt: skip


def _arguments(schema: Json) -> Json:
    properties = schema.get("properties") or {}
    required = schema.get("required") or list(properties)[:1]
    return {name: _argument(name, properties.get(name) or {}) for name in required}


def _argument(name: str, schema: Json) -> Any:
    command = f"echo {PROOF}"
    if name in ("command", "cmd"):
        return ["bash", "-lc", command] if schema.get("type") == "array" else command
    simple = {"integer": 1, "number": 1, "boolean": False, "array": [], "object": {}}
    return simple.get(str(schema.get("type")), "Oslo")


def _without_tools(asked: Asked) -> Asked:
    body = {name: value for name, value in asked.body.items() if name != "tools"}
    return Asked(body, asked.tokens, asked.emoji, asked.said, asked.begun)


def _id(prefix: str, asked: Asked) -> str:
    return prefix + asked.digest.hex()[:24]


def _pieces(text: str) -> list[str]:
    return [text[at : at + 8] for at in range(0, len(text), 8)]


if __name__ == "__main__":
    backend.ROUTES.update({"/v1/chat/completions": chat, "/v1/responses": responses})
    backend.ROUTES["/v1/messages"] = messages
    backend.main()
