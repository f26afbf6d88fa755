"""What the scripted LLM server says: made from the request alone, so it can be compared."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

Json = dict[str, Any]

WORDS = (
    *("the", "belt", "carries", "each", "task", "to", "a", "host", "with", "room", "and"),
    *("nobody", "waits", "in", "line", "for", "some", "machine", "that", "sleeps", "while"),
    *("another", "one", "works", "through", "this", "whole", "long", "night"),
)
EMOJI = ("\U0001f980", "é", "\u2028", "日本", "\U0001f469\u200d\U0001f680", "ß", "\x85", "ﷺ")

#: What makes a request the same one: everything but the way in which it wants to be told.
_NOT_ASKED = (
    *("stream", "stream_options", "x_script", "max_tokens", "max_completion_tokens"),
    *("continue_final_message", "add_generation_prompt"),
)


@dataclass(frozen=True)
class Answer:
    """One answer in both of its forms."""

    whole: Json
    #: What a stream begins with, sent together with the first token.
    head: tuple[bytes, ...] = ()
    #: The events of each token.
    steps: Sequence[bytes] = ()
    #: What a stream ends with, sent together with the last token. The last one ends the answer.
    tail: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A request, and what every kind of answer to it needs."""

    body: Json
    tokens: int
    emoji: bool
    #: The tokens themselves, for a server that makes its own.
    said: tuple[str, ...] | None = None
    #: How the answer has begun, which the body holds: only the rest is said.
    begun: str = ""

    @property
    def digest(self) -> bytes:
        body = self.body
        if self.begun and "prompt" in body:
            body = {**body, "prompt": body["prompt"].removesuffix(self.begun)}
        elif self.begun:
            body = {**body, "messages": body["messages"][:-1]}
        asked = {key: value for key, value in body.items() if key not in _NOT_ASKED}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()

    @property
    def limit(self) -> int | None:
        for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
            if type(limit := self.body.get(name)) is int:
                return limit
        return None

    @property
    def model(self) -> str:
        return str(self.body.get("model"))


def pieces(asked: Asked, digest: bytes, choice: int) -> tuple[list[str], str]:
    """Return the tokens of one choice, and why they end."""
    if asked.said is not None:
        return list(asked.said), "stop"
    if asked.begun:
        return _rest(asked, digest, choice)
    if wanted := _json_text(asked.body, digest):
        return [wanted[at : at + 4] for at in range(0, len(wanted), 4)], "stop"
    count = asked.tokens if asked.limit is None else min(asked.tokens, max(1, asked.limit))
    if asked.emoji:
        text = [EMOJI[(digest[at % 32] + at + choice) % len(EMOJI)] for at in range(count)]
    else:
        text = [
            " " + WORDS[(digest[at % 32] + at + 7 * choice) % len(WORDS)] for at in range(count)
        ]
    return text, "length" if count < asked.tokens else "stop"


def _rest(asked: Asked, digest: bytes, choice: int) -> tuple[list[str], str]:
    """Return what follows the beginning; the same tokens as without a break."""
    unbounded = {k: v for k, v in asked.body.items() if not k.startswith("max_")}
    whole, _ = pieces(replace(asked, body=unbounded, begun=""), digest, choice)
    sent = 0
    while sent < len(whole) and len("".join(whole[:sent])) < len(asked.begun):
        sent += 1
    if "".join(whole[:sent]) != asked.begun:
        return [" MIXED"], "stop"
    rest = whole[sent:]
    if asked.limit is not None and asked.limit < len(rest):
        return rest[: asked.limit], "length"
    return rest or [""], "stop"


def _json_text(body: Json, digest: bytes) -> str | None:
    wanted = body.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") not in ("json_object", "json_schema"):
        return None
    schema = wanted.get("json_schema", {}).get("schema", {"properties": {"answer": {}}})
    return json.dumps(_fill({"type": "object", **schema}, digest))


def _fill(schema: Json, digest: bytes) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type", "string"):
        case "object":
            return {name: _fill(part, digest) for name, part in schema["properties"].items()}
        case "array":
            return [_fill(schema.get("items", {}), digest)]
        case "integer":
            return digest[0]
        case "number":
            return digest[0] / 2
        case "boolean":
            return True
        case _:
            return WORDS[digest[1] % len(WORDS)]


def _words_in(value: Any) -> int:
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, dict):
        return _words_in(value.get("content", value.get("text", "")))
    return sum(map(_words_in, value)) if isinstance(value, list) else 1


def usage_of(body: Json, completion: int) -> Json:
    prompt = sum(_words_in(body[key]) for key in ("messages", "prompt", "input") if key in body)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def event(document: Json, name: str | None = None) -> bytes:
    data = b"data: " + json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return (b"" if name is None else f"event: {name}\n".encode()) + data + b"\n\n"


def created(digest: bytes) -> int:
    return 1_700_000_000 + digest[0]


def chat(asked: Asked) -> Answer:
    return _choices(asked, "chatcmpl-", "chat.completion", "chat.completion.chunk", _ChatShape())


def completion(asked: Asked) -> Answer:
    return _choices(asked, "cmpl-", "text_completion", "text_completion", _TextShape())


class _TextShape:
    """Form of a choice of /v1/completions."""

    def opening(self, asked: Asked, index: int) -> Json | None:
        return None

    def step(self, asked: Asked, index: int, token: str, reason: str | None) -> Json:
        logprobs = self._logprobs([token]) if asked.body.get("logprobs") else None
        return {"index": index, "text": token, "logprobs": logprobs, "finish_reason": reason}

    def whole(self, asked: Asked, index: int, tokens: list[str], reason: str) -> Json:
        logprobs = self._logprobs(tokens) if asked.body.get("logprobs") else None
        text = "".join(tokens)
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, tokens: list[str]) -> Json:
        chances = [-0.25] * len(tokens)
        offsets = [sum(map(len, tokens[:at])) for at in range(len(tokens))]
        return {"tokens": tokens, "token_logprobs": chances, "text_offset": offsets}


class _ChatShape:
    """Form of a choice of /v1/chat/completions."""

    def opening(self, asked: Asked, index: int) -> Json | None:
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def step(self, asked: Asked, index: int, token: str, reason: str | None) -> Json:
        delta: Json = {"content": token}
        if tool := _tool(asked.body):
            call = {"index": 0, "function": {"arguments": token}}
            if token == "{":
                call |= {"id": _call_id(asked), "type": "function"}
                call["function"] = {"name": tool, "arguments": token}
            delta = {"tool_calls": [call]}
            reason = reason and "tool_calls"
        logprobs = self._logprobs(asked, [token])
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    def whole(self, asked: Asked, index: int, tokens: list[str], reason: str) -> Json:
        message: Json = {"role": "assistant", "content": "".join(tokens)}
        if tool := _tool(asked.body):
            function = {"name": tool, "arguments": "".join(tokens)}
            call = {"id": _call_id(asked), "type": "function", "function": function}
            message |= {"content": None, "tool_calls": [call]}
            reason = "tool_calls"
        logprobs = self._logprobs(asked, tokens)
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, asked: Asked, tokens: list[str]) -> Json | None:
        if not asked.body.get("logprobs"):
            return None
        return {
            "content": [
                {"token": t, "logprob": -0.25, "bytes": list(t.encode()), "top_logprobs": []}
                for t in tokens
            ]
        }


def _tool(body: Json) -> str | None:
    """Name the tool that is called: the first one, until a result has come back."""
    tools, messages = body.get("tools"), body.get("messages") or [{}]
    if not tools or body.get("tool_choice") == "none" or messages[-1].get("role") == "tool":
        return None
    return str(tools[0]["function"]["name"])


def _call_id(asked: Asked) -> str:
    return "call_" + asked.digest.hex()[:12]


def _tool_tokens(asked: Asked, digest: bytes) -> list[str]:
    parameters = asked.body["tools"][0]["function"].get("parameters") or {}
    text = json.dumps(_fill({"properties": {}, **parameters, "type": "object"}, digest))
    return ["{", *(text[at : at + 4] for at in range(1, len(text), 4))]


def _choices(
    asked: Asked, prefix: str, kind: str, chunk_kind: str, shape: _ChatShape | _TextShape
) -> Answer:
    body, digest = asked.body, asked.digest
    prompts = body.get("prompt")
    count = body.get("n") or 1
    if isinstance(prompts, list) and not _is_tokens(prompts):
        count *= len(prompts)
    texts = [pieces(asked, digest, index) for index in range(count)]
    if isinstance(shape, _ChatShape) and _tool(body):
        texts = [(_tool_tokens(asked, digest), "stop") for _ in texts]
    same = {
        "id": prefix + digest.hex()[:24],
        "created": created(digest),
        "model": asked.model,
    }
    usage = usage_of(body, sum(len(list(filter(None, tokens))) for tokens, _ in texts))
    whole = {
        **same,
        "object": kind,
        "choices": [shape.whole(asked, at, *text) for at, text in enumerate(texts)],
        "usage": usage,
    }
    if not body.get("stream"):
        return Answer(whole, steps=(b"",) * len(texts[0][0]))
    chunk = {**same, "object": chunk_kind}
    opening = [shape.opening(asked, at) for at in range(len(texts))]
    tail = [b"data: [DONE]\n\n"]
    if (body.get("stream_options") or {}).get("include_usage"):
        tail.insert(0, event({**chunk, "choices": [], "usage": usage}))
    return Answer(
        whole,
        head=tuple(event({**chunk, "choices": [choice]}) for choice in opening if choice),
        steps=_Steps(asked, chunk, texts, shape),
        tail=tuple(tail),
    )


@dataclass(frozen=True)
class _Steps(Sequence[bytes]):
    """The events of each token, written when they are due: else many streams begin late."""

    asked: Asked
    chunk: Json
    texts: Sequence[tuple[list[str], str]]
    shape: _ChatShape | _TextShape

    def __len__(self) -> int:
        return max(len(tokens) for tokens, _ in self.texts)

    def __getitem__(self, at: Any) -> Any:
        if at >= len(self):
            raise IndexError
        events = b""
        for index, (tokens, why) in enumerate(self.texts):
            if at < len(tokens):
                reason = why if at == len(tokens) - 1 else None
                choice = self.shape.step(self.asked, index, tokens[at], reason)
                events += event({**self.chunk, "choices": [choice]})
        return events


def embeddings(asked: Asked) -> Answer:
    given = asked.body.get("input", "")
    inputs = given if isinstance(given, list) and not _is_tokens(given) else [given]
    size = asked.body.get("dimensions") or 8
    data = []
    for index, text in enumerate(inputs):
        digest = hashlib.sha256(json.dumps(text).encode()).digest()
        vector: Any = [digest[at % 32] / 256 - 0.5 for at in range(size)]
        if asked.body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = usage_of(asked.body, 0)
    return Answer({"object": "list", "model": asked.model, "data": data, "usage": usage})


def _is_tokens(given: list[Any]) -> bool:
    return bool(given) and isinstance(given[0], int)


def rerank(asked: Asked) -> Answer:
    documents = asked.body.get("documents", [])
    scores = [asked.digest[index % 32] / 256 for index in range(len(documents))]
    results: list[Json] = [
        {"index": index, "document": {"text": document}, "relevance_score": scores[index]}
        for index, document in enumerate(documents)
    ]
    results.sort(key=lambda result: -result["relevance_score"])
    shared = {"id": "rerank-" + asked.digest.hex()[:24], "model": asked.model}
    return Answer({**shared, "results": results[: asked.body.get("top_n") or None]})


def score(asked: Asked) -> Answer:
    second = asked.body.get("text_2", "")
    count = len(second) if isinstance(second, list) else 1
    data = [
        {"index": index, "object": "score", "score": asked.digest[index % 32] / 256}
        for index in range(count)
    ]
    shared = {"id": "score-" + asked.digest.hex()[:24], "model": asked.model}
    return Answer({**shared, "object": "list", "data": data, "usage": usage_of(asked.body, 0)})


def tokenize(asked: Asked) -> Answer:
    tokens = [len(word) for word in str(asked.body.get("prompt", "")).split()]
    return Answer({"count": len(tokens), "max_model_len": 4096, "tokens": tokens})
