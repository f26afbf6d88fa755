"""Continuation of an answer that others began: the request for the rest of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from inferline.streams.endings import document_of
from inferline.validation.payload import choices_of, include_usage
from inferline_provider.faults import CannotContinue, CannotContinueHere
from inferline_provider.relay.delivered import CHAT, COMPLETIONS, Delivered
from inferline_provider.relay.splice import Splice

#: Fields that bound or shape an answer in ways that its rest alone would not keep.
_SHAPING: Final = (
    "tools",
    "functions",
    "grammar",
    "json_schema",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "regex",
    "ebnf",
    "structural_tag",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "echo",
    "suffix",
    "audio",
    "best_of",
)
#: Fields that bound how many tokens an answer has.
_BOUNDS: Final = ("max_tokens", "max_completion_tokens", "n_predict")

#: Requests to a server that samples, until the end of the delivered text comes again. Half a word
#: does in about every second draw, and a draw ends with the first token that differs.
DRAWS_MAX: Final = 6
#: A longer text without a space is in a script that has none.
_WORD_CHARS_MAX: Final = 100


class Continuer(Protocol):
    """A backend, as much of it as continuing needs."""

    async def prefill(self, model: str, text: str, shape: object) -> Mapping[str, bool] | None:
        """
        Return the fields with which it continues the last message of a chat, which ends as `text`.

        `shape` is the client's `chat_template_kwargs`, if any. None when it can't continue. Raises
        Fault when it does not answer.
        """

    async def count_tokens(self, model: str, text: str) -> int | None:
        """Return the number of tokens in `text`; None when it has no tokenizer. Raises Fault."""


def may_continue(path: str, body: bytes) -> bool:
    """
    Say whether an answer to this request could be continued by another attempt.

    Only an answer that is one text can: no calls of tools, no grammar, no probabilities.
    """
    if not path.endswith(COMPLETIONS):
        return False
    document = document_of(body)
    if document.get("stream") is not True or choices_of(document) != 1:
        return False
    shape = document.get("response_format")
    is_shaped = isinstance(shape, dict) and shape.get("type", "text") != "text"
    if is_shaped or any(is_set(document.get(name)) for name in _SHAPING):
        return False
    return path.endswith(CHAT) or isinstance(document.get("prompt"), str)


@dataclass(frozen=True, slots=True)
class Continuation:
    """The rest of an answer: the request for it, and the stage that joins it to the beginning."""

    #: The request's body, with the model's name as the client wrote it; None: nothing is missing.
    body: bytes | None
    splice: Splice


async def continuation(
    left: Delivered, path: str, body: bytes, name: str, backend: Continuer
) -> Continuation:
    """
    Return the request to a backend for the rest of the answer to `body`, of which `left` is there.

    `name` is the backend's name of the model. Raises CannotContinue when nobody could continue it,
    CannotContinueHere when this backend can't, and other Faults of it.
    """
    if not may_continue(path, body):
        raise CannotContinue("An answer to such a request can't be continued.")
    document = document_of(body)
    if left.done or (left.finished and (left.usage or not include_usage(document))):
        return Continuation(None, Splice(left, 0, is_over=True))
    text = _sure_text(left, document)
    counted = await backend.count_tokens(name, text) if text else 0
    tokens = counted or left.events_within(len(text))
    if text == left.text:
        # No event has less than a token, but a model may make several where a tokenizer makes one.
        tokens = max(tokens, len(left.texts))
    is_over = _lower_bounds(document, tokens) or left.finished
    if is_over:
        _ask_one_token(document)
    if text:
        await _extend(document, text, name, backend, chat=path.endswith(CHAT))
    splice = Splice(left, tokens, is_over=is_over, repeat=left.text[len(text) :])
    return Continuation(json.dumps(document).encode(), splice)


def draws_of(body: bytes) -> int:
    """Return how many requests a continuation may take: one, where each gives the same answer."""
    document = document_of(body)
    is_same = document.get("temperature") == 0 or document.get("seed") is not None
    return 1 if is_same else DRAWS_MAX


def _sure_text(left: Delivered, document: Mapping[str, Any]) -> str:
    """Return as much of the text as ends with a token."""
    if left.finished or left.is_by_token or not holds_back(document):
        return left.text
    is_spaced = bool(left.whole_words) or len(left.text) <= _WORD_CHARS_MAX
    # All of a text without spaces would hardly come again when it is drawn.
    return left.whole_words if is_spaced or document.get("temperature") == 0 else left.text


def holds_back(document: Mapping[str, Any]) -> bool:
    """
    Say whether a server may hold back the end of what it has made: it may begin a stop string.

    vLLM does so with as many characters as the longest has but one, whatever they are, so that
    the text of an answer that breaks off ends inside a token.
    """
    stop = document.get("stop")
    stops = stop if isinstance(stop, list) else [stop]
    is_long = any(isinstance(text, str) and len(text) > 1 for text in stops)
    return is_long and document.get("include_stop_str_in_output") is not True


def is_set(value: Any) -> bool:
    """Say whether a field asks for something. 0 does: `logprobs` of 0 are not none."""
    return value is not None and value is not False and value not in ([], {}, "")


def _lower_bounds(document: dict[str, Any], tokens: int) -> bool:
    """Lower the bounds by `tokens`, to one at least; return True when no token was left."""
    bounds = {name: int(document[name]) for name in _BOUNDS if _is_count(document.get(name))}
    for name, bound in bounds.items():
        document[name] = max(1, bound - tokens)
    if _is_count(document.get("min_tokens")):
        document["min_tokens"] = max(0, int(document["min_tokens"]) - tokens)
    return any(bound <= tokens for bound in bounds.values())


def bound_of(document: Mapping[str, Any]) -> int | None:
    """Return the most tokens that an answer may have; None if the request has no bound."""
    bounds = [int(document[name]) for name in _BOUNDS if _is_count(document.get(name))]
    return min(bounds, default=None)


def _is_count(value: Any) -> bool:
    """Say whether a value is a bound; servers take 8.0 for 8."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _ask_one_token(document: dict[str, Any]) -> None:
    """Ask for one token: only the usage is wanted."""
    bounds = [name for name in _BOUNDS if name in document] or ["max_tokens"]
    document |= dict.fromkeys(bounds, 1)
    if "min_tokens" in document:
        document["min_tokens"] = 0


async def _extend(
    document: dict[str, Any], text: str, name: str, backend: Continuer, *, chat: bool
) -> None:
    """Put the delivered text behind the prompt."""
    if not chat:
        document["prompt"] += text
        return
    fields = await backend.prefill(name, text, document.get("chat_template_kwargs"))
    if fields is None:
        raise CannotContinueHere("The backend can't continue an answer.")
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise CannotContinue("The chat has no messages.")
    begun = {"role": "assistant", "content": text}
    last = messages[-1]
    if isinstance(last, dict) and last.get("role") == "assistant":
        # The client has begun the answer itself. Nobody can see whether the backend took it so.
        if not isinstance(last.get("content"), str) or any(
            document.get(field) != value for field, value in fields.items()
        ):
            raise CannotContinue("The chat ends with an answer already.")
        messages = messages[:-1]
        begun = {**last, "content": last["content"] + text}
    document["messages"] = [*messages, begun]
    document |= fields
