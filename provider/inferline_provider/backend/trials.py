"""Trials of what a backend can do for an answer that is to be continued."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

#: A possible beginning of an answer that is to be continued.
BEGUN: Final = "One, two,"
#: Time for which it is remembered that a backend can't continue answers, seconds.
UNABLE_SECONDS: Final = 60.0
#: The same for one that can, where that is asked before it is needed.
ABLE_SECONDS: Final = 60.0

#: Posts a document to a route that the backend may not have; returns {} for no answer.
Post = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class Trials:
    """Questions to the routes for templates and tokens, which servers name in different ways."""

    def __init__(self, post: Post) -> None:
        self._post = post
        #: Until when no continuation of such a chat is tried.
        self._unable_until: dict[str, float] = {}
        self._able_until: dict[str, float] = {}

    async def prefill(self, model: str, text: str, shape: object) -> dict[str, bool] | None:
        """
        Return the fields with which it continues the last message of a chat; None when it can't.

        A trial shows it: the prompt that the backend makes of a chat, without generating anything.
        That chat ends with as many spaces as `text`: many templates drop those, and then the rest
        would have them twice. `shape` is the client's `chat_template_kwargs`: some models can only
        be continued when these turn thinking off. Raises Unreachable.
        """
        begun = BEGUN + text[len(text.rstrip()) :]
        key, now = json.dumps([model, begun, shape]), asyncio.get_running_loop().time()
        if self._unable_until.get(key, 0.0) > now:
            return None
        question = {"role": "user", "content": "Count."}
        chat: dict[str, Any] = {"model": model}
        chat["messages"] = [question, {"role": "assistant", "content": begun}]
        if shape is not None:
            chat["chat_template_kwargs"] = shape
        answer = await self._post("/apply-template", chat)  # llama.cpp
        if str(answer.get("prompt", "")).endswith(begun):
            return {}
        fields = {"continue_final_message": True, "add_generation_prompt": False}
        answer = await self._post("/tokenize", {**chat, **fields})  # vLLM
        if tokens := answer.get("tokens"):
            answer = await self._post("/detokenize", {"model": model, "tokens": tokens})
            if str(answer.get("prompt", "")).endswith(begun):
                return fields
        self._unable_until = {k: v for k, v in self._unable_until.items() if v > now}
        self._unable_until[key] = now + UNABLE_SECONDS
        return None

    async def can_continue(self, model: str, shape: object) -> bool:
        """Say whether it could continue most answers to such a chat. Raises Unreachable."""
        key, now = json.dumps([model, shape]), asyncio.get_running_loop().time()
        if self._able_until.get(key, 0.0) > now:
            return True
        if await self.prefill(model, "", shape) is None:
            return False
        self._able_until = {k: v for k, v in self._able_until.items() if v > now}
        self._able_until[key] = now + ABLE_SECONDS
        return True

    async def count_tokens(self, model: str, text: str) -> int | None:
        """Return the number of tokens in `text`; None without a tokenizer. Raises Unreachable."""
        question = {"model": model, "content": text, "prompt": text, "add_special_tokens": False}
        tokens = (await self._post("/tokenize", question)).get("tokens")
        return len(tokens) if isinstance(tokens, list) else None
