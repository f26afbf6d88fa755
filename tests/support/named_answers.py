"""The scripted LLM server's answers whose events have names: the Responses and Messages APIs."""

from __future__ import annotations

from tests.support.answers import Answer, Asked, Json, created, event, pieces, usage_of


def responses(asked: Asked) -> Answer:
    digest = asked.digest
    tokens, why = pieces(asked, digest, 0)
    text = "".join(tokens)
    item_id = "msg_" + digest.hex()[:24]
    part = {"type": "output_text", "text": text, "annotations": []}
    item: Json = {"id": item_id, "type": "message", "role": "assistant", "content": [part]}
    usage = usage_of(asked.body, len(tokens))
    base = {
        "id": "resp_" + digest.hex()[:24],
        "object": "response",
        "created_at": created(digest),
        "model": asked.model,
        "error": None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    status = "completed" if why == "stop" else "incomplete"
    whole = {
        **base,
        "status": status,
        "output": [item | {"status": status}],
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
        },
    }
    where = {"item_id": item_id, "output_index": 0, "content_index": 0}
    begun = {**base, "status": "in_progress", "output": []}
    empty_item = item | {"status": "in_progress", "content": []}
    head: list[tuple[str, Json]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": empty_item}),
        ("response.content_part.added", {**where, "part": part | {"text": ""}}),
    ]
    deltas: list[tuple[str, Json]] = [
        ("response.output_text.delta", {**where, "delta": token, "logprobs": []})
        for token in tokens
    ]
    tail: list[tuple[str, Json]] = [
        ("response.output_text.done", {**where, "text": text, "logprobs": []}),
        ("response.content_part.done", {**where, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": item | {"status": status}}),
        (f"response.{status}", {"response": whole}),
    ]
    named = [
        event({"type": name, "sequence_number": number, **rest}, name)
        for number, (name, rest) in enumerate([*head, *deltas, *tail])
    ]
    return Answer(whole, tuple(named[:4]), tuple(named[4:-4]), tuple(named[-4:]))


def messages(asked: Asked) -> Answer:
    digest = asked.digest
    tokens, why = pieces(asked, digest, 0)
    reason = "end_turn" if why == "stop" else "max_tokens"
    usage = usage_of(asked.body, len(tokens))
    spent = {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}
    whole = {
        "id": "msg_" + digest.hex()[:24],
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [{"type": "text", "text": "".join(tokens)}],
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": spent,
    }
    begun = whole | {"content": [], "stop_reason": None, "usage": spent | {"output_tokens": 0}}
    block = {"type": "text", "text": ""}
    head: list[tuple[str, Json]] = [
        ("message_start", {"message": begun}),
        ("content_block_start", {"index": 0, "content_block": block}),
        ("ping", {}),
    ]
    deltas: list[tuple[str, Json]] = [
        ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": token}})
        for token in tokens
    ]
    stop = {"stop_reason": reason, "stop_sequence": None}
    tail: list[tuple[str, Json]] = [
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": stop, "usage": {"output_tokens": len(tokens)}}),
        ("message_stop", {}),
    ]
    named = [event({"type": name, **rest}, name) for name, rest in [*head, *deltas, *tail]]
    return Answer(whole, tuple(named[:3]), tuple(named[3:-3]), tuple(named[-3:]))
