"""
Folding: a line's answer is read as a stream, so that a part of it can be kept, and becomes one JSON
document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from inferline.streams.endings import document_of, finish_reason
from inferline.streams.sse import EventParser, is_done
from inferline.validation.payload import choices_of
from inferline_provider.backend.classification import Finish
from inferline_provider.faults import BackendAnswer, CannotContinue
from inferline_provider.relay import edits
from inferline_provider.relay.continuation import (
    Continuation,
    Continuer,
    continuation,
    is_set,
    may_continue,
)
from inferline_provider.relay.delivered import CHAT, COMPLETIONS, Delivered, take
from inferline_provider.relay.framing import EVENTS, JSON

#: Fields whose answers are not the same as a stream, or are refused as one. Servers parse calls of
#: tools in two ways, and vLLM's differ in the white space of the arguments.
_UNFOLDED: Final = (
    *("tools", "functions", "audio", "echo", "best_of", "prompt_logprobs"),
    *("return_token_ids", "stream", "stream_options"),
)
#: The fields that ask for a stream and its usage, as they are written.
_ASKING: Final = {
    "stream": (b"stream", b"true"),
    "stream_options": (b"stream_options", b'{"include_usage":true}'),
}
#: The `object` of a plain answer, by that of the stream's events.
_OBJECTS: Final = {"chat.completion.chunk": "chat.completion"}
#: Fields that an answer has from the first event with them: later parts of it may have others.
_FIRST: Final = frozenset({"id", "object", "created", "model", "system_fingerprint", "role"})
#: Parts of a message that come in pieces.
_TEXTS: Final = frozenset({"content", "reasoning_content", "reasoning", "refusal", "text"})


def is_foldable(path: str, body: bytes) -> bool:
    """Say whether a stream of the answer to this request folds into the backend's plain answer."""
    document = document_of(body)
    return (
        path.endswith(COMPLETIONS)
        and choices_of(document) == 1
        and not any(is_set(document.get(name)) for name in _UNFOLDED)
    )


def may_resume(path: str, body: bytes) -> bool:
    """Say whether the answer to this request could be continued behind a part of it."""
    return is_foldable(path, body) and may_continue(path, streamed(body))


def streamed(body: bytes) -> bytes:
    """Return a foldable request as one for a stream with its usage, all else byte for byte."""
    document = document_of(body)
    wanted = {**document, "stream": True, "stream_options": {"include_usage": True}}
    changed = edits.first(_changes(body, document), wanted)
    return json.dumps(wanted).encode() if changed is None else changed


def _changes(body: bytes, document: Mapping[str, Any]) -> Iterable[bytes]:
    """Return the ways in which the two fields may be written into `body`."""
    end = body.rindex(b"}")
    more = b"".join(b',"%s":%s' % field for name, field in _ASKING.items() if name not in document)
    changes: Iterable[bytes] = (body[:end] + more + body[end:],)
    for name, (written, value) in _ASKING.items():
        if name in document:
            pattern = rb'"%s"\s*:\s*(false|null)' % written
            changes = [each for old in changes for each in edits.replaced(old, pattern, value)]
    return changes


class Folding:
    """
    A line's answer, folded while it comes: `Relay` writes its events here instead of to chunks.

    It outlives the backend's request: a part that was broken off, or given up for a better task's
    sake, stays, and `resume` asks for the rest.
    """

    #: No reader has a part of the answer, so an error in the stream becomes the whole answer.
    begun: Final = False

    def __init__(self, path: str, body: bytes) -> None:
        """Fold the answer to `body`, the line's request as its client wrote it."""
        self._path = path
        self._request = streamed(body)
        self._parser = EventParser()
        self._answer: dict[str, Any] = {}
        self._choice: dict[str, Any] = {"index": 0}
        self._message: dict[str, Any] = {"content": ""} if self._is_chat else self._choice
        self._left = Delivered(after=(), content_type=EVENTS)
        self._may_resume = may_resume(path, body)
        #: How many events had a part of the answer: nearly all servers send one for each token.
        self.tokens = 0

    @property
    def request(self) -> bytes:
        """Return the request for the answer from its beginning."""
        return self._request

    @property
    def text(self) -> str:
        """Return the text that has come so far."""
        return self._left.text

    @property
    def may_resume(self) -> bool:
        """Return True if the rest can be asked for: what has come so far is text alone."""
        return self._may_resume

    async def resume(self, name: str, backend: Continuer) -> Continuation:
        """
        Return the request for the rest, and the stage by which `Relay` joins it.

        `name` is the backend's name of the model. Without a body nothing is missing. A rest that
        raises NotRepeated may be asked for again, `draws_of` the request times. Raises Fault.
        """
        if not self._may_resume:
            raise CannotContinue("The answer is more than text.")
        left = replace(self._left, texts=list(self._left.texts))
        return await continuation(left, self._path, self._request, name, backend)

    def head(self, status: int, content_type: str) -> None:
        """Take note of nothing: only a stream that succeeds has events."""

    def put(self, event: bytes) -> None:
        """Add an event."""
        for each in self._parser.feed(event):
            if is_done(each):
                self._left.done = True
            else:
                self._take(document_of(each.data))

    async def drained(self) -> None:
        """Return at once: a folded answer stays in memory."""

    def discard(self) -> None:
        """Keep what came before an error: the rest may be asked for again."""

    def answer(self, finish: Finish) -> BackendAnswer:
        """Return the plain answer with which the exchange has finished."""
        outcome = finish.outcome
        if not outcome.content_type.startswith(EVENTS):
            kind, headers = outcome.content_type, outcome.headers
            return BackendAnswer(outcome.status, kind, finish.rest, headers)
        if self._is_chat:
            self._choice["message"] = {"role": "assistant", **self._message}
        name = self._answer.get("object", "")
        document = {
            **self._answer,
            "object": _OBJECTS.get(name, name),
            "choices": [{"finish_reason": None, **self._choice}],
        }
        return BackendAnswer(200, JSON, json.dumps(document, separators=(",", ":")).encode())

    @property
    def _is_chat(self) -> bool:
        return self._path.endswith(CHAT)

    def _take(self, document: Mapping[str, Any]) -> None:
        """Join the fields of an event to the answer's."""
        choices = document.get("choices") or []
        _join(self._answer, {name: document[name] for name in document if name != "choices"})
        for choice in choices:
            outer = {name: choice[name] for name in choice if name not in ("delta", "logprobs")}
            if not finish_reason(choice):
                outer.pop("finish_reason", None)
            _join(self._choice, outer)
            _join(self._message, choice.get("delta") or {})
            _join_logprobs(self._choice, choice)
            self.tokens += 1
        try:
            self._left.texts += take(self._left, document, chat=self._is_chat)
        except CannotContinue:
            self._may_resume = False


def _join(answer: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Join a part's fields: texts are put together, and of others the last value counts."""
    for name, value in part.items():
        before = answer.get(name)
        if name in _TEXTS and isinstance(before, str) and isinstance(value, str):
            answer[name] = before + value
        elif before is None or not (value is None or name in _FIRST):
            answer[name] = value


def _join_logprobs(answer: dict[str, Any], choice: Mapping[str, Any]) -> None:
    """Join the probabilities of a part's tokens: lists behind lists."""
    if "logprobs" not in choice:
        return
    before, more = answer.setdefault("logprobs", choice["logprobs"]), choice["logprobs"]
    if before is None:
        answer["logprobs"] = more
    elif isinstance(more, dict) and more is not before:
        for name, value in more.items():
            if isinstance(before.get(name), list) and isinstance(value, list):
                before[name] += value
            elif before.get(name) is None:
                before[name] = value
