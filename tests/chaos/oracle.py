"""Judges what one client got: a whole answer, a clean error, or something that must never be."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.chaos.backend import TOKEN

Json = dict[str, Any]

#: Of every prompt, as the scripted servers count.
PROMPT_TOKENS = 1

#: ``ok``: all of the answer. ``error``: an error as OpenAI writes it, after none or some of the
#: answer. ``left``: the client hung up. ``cut``: the connection broke. ``late``: no end in time.
End = Literal["ok", "error", "left", "cut", "late"]


@dataclass(slots=True)
class Outcome:
    """End of one request for its client."""

    end: End
    #: Of an error; the code.
    code: str = ""
    #: How many tokens the client got, and by how many runs of backends they were made.
    tokens: int = 0
    runs: int = 0
    #: What must never be.
    wrongs: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Heard:
    """A body or stream as far as it came."""

    status: int
    content_type: str
    raw: bytes
    #: Whether the server ended it as HTTP has it.
    whole: bool
    #: The task's id.
    task: str = ""

    @property
    def is_stream(self) -> bool:
        """Return whether it is a stream, or the beginning of one."""
        return self.status == 200 and self.content_type.startswith("text/event-stream")

    @property
    def without_error(self) -> bytes:
        """Return the same without the error event that it may end in."""
        return self.raw.partition(b'data: {"error"')[0]

    @property
    def complete(self) -> bytes:
        """Return a stream as far as its last event that came in full."""
        return self.raw[: self.raw.rfind(b"\n\n") + 2] if b"\n\n" in self.raw else b""

    @property
    def events(self) -> int:
        """Return how many events of a stream came in full."""
        return len(_events(self.raw))


def judge(heard: Heard, request: str, tokens: int, *, streamed: bool) -> Outcome:
    """Return what the client named ``request``, who asked for so many tokens, has to make of it."""
    if heard.is_stream:
        outcome = _judge_stream(heard, request, tokens)
        if not streamed:
            outcome.wrongs.append("a stream that nobody asked for")
        return outcome
    return _judge_document(heard, request, tokens)


def _judge_document(heard: Heard, request: str, tokens: int) -> Outcome:
    if not heard.whole:
        return Outcome("cut")
    document = _json(heard.raw)
    if heard.status != 200:
        return _error(document, f"a status {heard.status} without an OpenAI error")
    if document is None:
        return Outcome("error", wrongs=["a 200 without JSON"])
    choice = (document.get("choices") or [{}])[0]
    outcome = _told(choice.get("text") or (choice.get("message") or {}).get("content"), request)
    if choice.get("finish_reason") != "stop":
        outcome.wrongs.append("an answer without finish_reason")
    outcome.wrongs += _usage([document.get("usage") or {}], outcome)
    return _whole(outcome, tokens)


def _judge_stream(heard: Heard, request: str, tokens: int) -> Outcome:
    events = _events(heard.raw)
    documents = [document for event in events if (document := _json(event)) is not None]
    choices = [choice for document in documents for choice in document.get("choices") or ()]
    text = "".join(c.get("text") or (c.get("delta") or {}).get("content") or "" for c in choices)
    outcome = _told(text, request)
    outcome.wrongs += _form(events, documents)
    errors = [document for document in documents if "error" in document]
    finishes = [choice for choice in choices if choice.get("finish_reason")]
    if errors:
        error = _error(errors[0], "an error event without code")
        outcome.end, outcome.code = "error", error.code
        outcome.wrongs += error.wrongs
        if "error" not in documents[-1] or len(errors) > 1:
            outcome.wrongs.append("something after the error")
        if finishes:
            outcome.wrongs.append("an error after the end of the answer")
    elif not heard.whole or not events or events[-1] != b"[DONE]":
        outcome.end = "cut"
        if heard.whole:
            outcome.wrongs.append("a truncated stream that looks complete")
    else:
        if len(finishes) != 1:
            outcome.wrongs.append(f"{len(finishes)} finishes")
        usages = [document["usage"] for document in documents if document.get("usage")]
        _whole(outcome, tokens)
        outcome.wrongs += _usage(usages, outcome)
    return outcome


def _form(events: list[bytes], documents: list[Json]) -> list[str]:
    """Return what is wrong with a stream whatever it says."""
    wrongs = []
    if len(documents) + events.count(b"[DONE]") != len(events):
        wrongs.append("an event that is not JSON")
    if events.count(b"[DONE]") > 1 or b"[DONE]" in events[:-1]:
        wrongs.append("an event after [DONE]")
    if len({document["id"] for document in documents if "id" in document}) > 1:
        wrongs.append("several ids")
    return wrongs


def _told(text: str | None, request: str) -> Outcome:
    """Return whether a text is a whole beginning of one answer, made by one run after another."""
    tokens = list(TOKEN.finditer(text or ""))
    outcome = Outcome("ok", tokens=len(tokens))
    if "".join(token[0] for token in tokens) != (text or ""):
        outcome.wrongs.append("text that no backend has made")
    if {token[1] for token in tokens} - {request}:
        outcome.wrongs.append("another request's text")
    numbers = [int(token[4]) for token in tokens]
    if numbers != list(range(len(tokens))):
        repeated = len(set(numbers)) < len(numbers)
        outcome.wrongs.append("repeated text" if repeated else "missing text")
    runs = list(dict.fromkeys(f"{token[2]}.{token[3]}" for token in tokens))
    outcome.runs = len(runs)
    # Only a run that was given the text before it may go on from there.
    if any(run.partition(".")[2][0] != ("c" if at else "s") for at, run in enumerate(runs)):
        outcome.wrongs.append("mixed attempts")
    return outcome


def _whole(outcome: Outcome, tokens: int) -> Outcome:
    if outcome.tokens < tokens:
        outcome.wrongs.append("a truncated success")
    elif outcome.tokens > tokens:
        outcome.wrongs.append("more than was asked for")
    return outcome


def _usage(usages: list[Json], outcome: Outcome) -> list[str]:
    """Return what is wrong with what the client is told to pay."""
    if len(usages) != 1:
        return [f"{len(usages)} usages"]
    counts = usages[0].get("completion_tokens"), usages[0].get("prompt_tokens")
    return [] if counts == (outcome.tokens, PROMPT_TOKENS) else [f"a false usage: {counts}"]


def _error(document: Json | None, otherwise: str) -> Outcome:
    error = document.get("error") if document else None
    if not isinstance(error, dict) or not {"message", "type", "param", "code"} <= error.keys():
        return Outcome("error", "malformed", wrongs=[otherwise])
    return Outcome("error", str(error["code"]))


def _events(raw: bytes) -> list[bytes]:
    """
    Return the data of each event; comments are nothing. What came of a last, unended one is
    dropped.
    """
    blocks = raw.split(b"\n\n")[:-1]
    return [
        block.removeprefix(b"data: ") for block in blocks if block and not block.startswith(b":")
    ]


def _json(data: bytes) -> Json | None:
    try:
        document = json.loads(data)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
