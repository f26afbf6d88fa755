"""How an answer that others began goes on: what the backend is asked, and what is passed on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from inferline.streams.endings import document_of, finish_reason
from inferline.streams.sse import Event, data_event
from inferline.validation.payload import choices_of, include_usage
from inferline_provider.faults import CannotContinue, CannotContinueHere, NotRepeated
from inferline_provider.relay.delivered import CHAT, COMPLETIONS, Delivered

#: Fields that bound or shape an answer in ways that its rest alone would not keep.
_SHAPING: Final = (
    *("tools", "functions", "grammar", "json_schema", "structured_outputs"),
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("regex", "ebnf", "structural_tag"),
    *("logprobs", "top_logprobs", "prompt_logprobs", "echo", "suffix", "audio", "best_of"),
)
#: Fields that bound how many tokens an answer has.
_BOUNDS: Final = ("max_tokens", "max_completion_tokens", "n_predict")

#: How often a server that samples is asked, until what is there already comes again. Half a word
#: does in about every second draw, and a draw ends with the first token that differs.
DRAWS_MAX: Final = 6
#: A text without a space that is longer is of a script that has none.
_WORD_CHARS_MAX: Final = 100

DONE: Final = b"data: [DONE]\n\n"


class Continuer(Protocol):
    """A backend, as much of it as continuing needs."""

    async def prefill(self, model: str, text: str, shape: object) -> Mapping[str, bool] | None:
        """
        The fields that have it continue the last message of a chat, which ends as ``text`` does.

        ``shape`` is what the client tells the template, if anything. None when it can't. Raises
        Fault when it does not answer.
        """

    async def count_tokens(self, model: str, text: str) -> int | None:
        """How many tokens ``text`` is; None when it does not tell. Raises Fault."""


def may_continue(path: str, body: bytes) -> bool:
    """
    Say whether an answer to this request could be continued by another attempt.

    Only one text that nothing else depends on: no calls of tools, no grammar, no probabilities.
    """
    if not path.endswith(COMPLETIONS):
        return False
    document = document_of(body)
    if document.get("stream") is not True or choices_of(document) != 1:
        return False
    shape = document.get("response_format")
    is_shaped = isinstance(shape, dict) and shape.get("type", "text") != "text"
    if is_shaped or any(_says(document.get(name)) for name in _SHAPING):
        return False
    return path.endswith(CHAT) or isinstance(document.get("prompt"), str)


@dataclass(frozen=True, slots=True)
class Continuation:
    """What is left to do."""

    #: What the backend is asked, with the model's name as the client wrote it; None: nothing.
    body: bytes | None
    splice: Splice


async def continuation(
    left: Delivered, path: str, body: bytes, name: str, backend: Continuer
) -> Continuation:
    """
    Say how the answer to ``body``, of which ``left`` is there, goes on at a backend.

    ``name`` is the backend's own of the model. Raises CannotContinue when nobody could, and Unfit
    when this backend can't, and other Faults of it.
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
        # No event has less than a token, but a model may say in several what a tokenizer says in
        # one.
        tokens = max(tokens, len(left.texts))
    is_over = _bounded(document, tokens) or left.finished
    if is_over:
        _ask_least(document)
    if text:
        await _extend(document, text, name, backend, chat=path.endswith(CHAT))
    splice = Splice(left, tokens, is_over=is_over, repeat=left.text[len(text) :])
    return Continuation(json.dumps(document).encode(), splice)


def draws_of(body: bytes) -> int:
    """Return how often a backend may be asked to go on: once, where it says the same each time."""
    document = document_of(body)
    is_same = document.get("temperature") == 0 or document.get("seed") is not None
    return 1 if is_same else DRAWS_MAX


def _sure_text(left: Delivered, document: Mapping[str, Any]) -> str:
    """Return as much of the text as ends with a token."""
    if left.finished or left.is_by_token or not _holds_back(document):
        return left.text
    is_spaced = bool(left.whole_words) or len(left.text) <= _WORD_CHARS_MAX
    # All of a text without spaces would hardly come again when it is drawn.
    return left.whole_words if is_spaced or document.get("temperature") == 0 else left.text


def _holds_back(document: Mapping[str, Any]) -> bool:
    """
    Say whether a server may hold back the end of what it has made: it may begin a stop string.

    vLLM does so with as many characters as the longest has but one, whatever they are, so that
    the text of an answer that breaks off ends inside a token.
    """
    stop = document.get("stop")
    stops = stop if isinstance(stop, list) else [stop]
    is_long = any(isinstance(one, str) and len(one) > 1 for one in stops)
    return is_long and document.get("include_stop_str_in_output") is not True


def _says(value: Any) -> bool:
    """Say whether a field asks for something. Of probabilities, none is not 0."""
    return value is not None and value is not False and value not in ([], {}, "")


def _bounded(document: dict[str, Any], tokens: int) -> bool:
    """Ask for ``tokens`` less, at least one; True when there were none left to ask for."""
    bounds = {name: int(document[name]) for name in _BOUNDS if _is_count(document.get(name))}
    for name, bound in bounds.items():
        document[name] = max(1, bound - tokens)
    if _is_count(document.get("min_tokens")):
        document["min_tokens"] = max(0, int(document["min_tokens"]) - tokens)
    return any(bound <= tokens for bound in bounds.values())


def _is_count(value: Any) -> bool:
    """Say whether a field bounds something; servers take 8.0 for 8."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _ask_least(document: dict[str, Any]) -> None:
    """Ask for one token: of what comes, only the usage is wanted."""
    bounds = [name for name in _BOUNDS if name in document] or ["max_tokens"]
    document |= dict.fromkeys(bounds, 1)
    if "min_tokens" in document:
        document["min_tokens"] = 0


async def _extend(
    document: dict[str, Any], text: str, name: str, backend: Continuer, *, chat: bool
) -> None:
    """Put the text that there is behind what was asked."""
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
        # The client has begun the answer itself. Whether the backend took it so can't be seen.
        if not isinstance(last.get("content"), str) or any(
            document.get(field) != value for field, value in fields.items()
        ):
            raise CannotContinue("The chat ends with an answer already.")
        messages = messages[:-1]
        begun = {**last, "content": last["content"] + text}
    document["messages"] = [*messages, begun]
    document |= fields


class Splice:
    """
    Makes the events of this attempt the rest of the stream that others began.

    They carry the ids that the stream began with, do not say again that somebody begins to speak,
    and count the tokens of the whole answer.
    """

    def __init__(self, left: Delivered, tokens: int, *, is_over: bool, repeat: str = "") -> None:
        """``tokens``: how many have been made. ``repeat``: what is there and will come again."""
        self.after = left.after
        self.content_type = left.content_type
        self._left = left
        self._tokens = tokens
        #: Of what the backend says only the tokens matter.
        self._is_over = is_over
        self._repeat = "" if is_over else repeat

    def begin(self) -> Event | None:
        """What is said before the backend says anything: that the text has the length it may."""
        if not self._is_over or self._left.finished:
            return None
        chat = self._left.envelope.get("object") == "chat.completion.chunk"
        said: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        choice = {"index": 0, **said, "finish_reason": "length"}
        return _event({**self._left.envelope, "choices": [choice]})

    @property
    def is_finished(self) -> bool:
        """Whether the text has been said to be at its end."""
        return self._left.finished

    def rest(self) -> bytes:
        """What is said where nothing is left to ask: that nothing more comes, unless it was."""
        return b"" if self._left.done else DONE

    def change(self, event: Event) -> Event | None:
        """
        An event as it continues the stream; None when it is left out.

        Raises NotRepeated when what is there already comes otherwise than it was.
        """
        document = document_of(event.data)
        choices = document.get("choices")
        if choices is None and isinstance(document.get("usage"), dict):
            choices = []
        if not isinstance(choices, list) or document.get("error"):
            return event  # The end, an error, or what can't be read: it is judged as anywhere.
        document |= self._left.envelope
        if isinstance(document.get("usage"), dict):
            document["usage"] = self._usage(document["usage"])
        if choices:
            if self._is_over:
                document["choices"] = choices = []
            elif not any(map(self._goes_on, choices)):
                return None
        if not choices and not document.get("usage"):
            return None
        return _event(document)

    def _goes_on(self, choice: Any) -> bool:
        """Say whether a choice has news; what is none is taken out of it."""
        if not isinstance(choice, dict):
            return True
        delta, is_empty = choice.get("delta"), False
        if isinstance(delta, dict) and "role" in delta:
            del delta["role"]
            if not delta.get("content"):
                delta.pop("content", None)
            is_empty = not delta
        if self._repeat:
            name, said = ("content", delta) if isinstance(delta, dict) else ("text", choice)
            self._leave_out(said, name, choice)
            is_empty = not said.get(name)
        return not is_empty or bool(finish_reason(choice))

    def _leave_out(self, said: dict[str, Any], name: str, choice: Mapping[str, Any]) -> None:
        """Take out of an event what is there already. Raises NotRepeated when it is not."""
        text = said.get(name)
        text = text if isinstance(text, str) else ""
        count = min(len(text), len(self._repeat))
        is_short = bool(finish_reason(choice)) and count < len(self._repeat)
        if text[:count] != self._repeat[:count] or is_short:
            raise NotRepeated("The backend does not say again what its answer began with.")
        self._repeat = self._repeat[count:]
        if count:
            said[name] = text[count:]

    def _usage(self, usage: dict[str, Any]) -> dict[str, Any]:
        """The tokens of the whole answer: what was put behind the prompt is none of the prompt."""
        asked, wrote = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if type(asked) is not int or type(wrote) is not int:
            return usage
        tokens = min(self._tokens, asked)
        wrote = tokens + (0 if self._is_over else wrote)
        asked -= tokens
        told: dict[str, Any] = {"prompt_tokens": asked, "completion_tokens": wrote}
        told["total_tokens"] = asked + wrote
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict) and type(details.get("cached_tokens")) is int:
            cached = min(details["cached_tokens"], asked)
            told["prompt_tokens_details"] = {**details, "cached_tokens": cached}
        return {**usage, **told}


def _event(document: dict[str, Any]) -> Event:
    data = json.dumps(document, separators=(",", ":")).encode()
    return Event(None, data, data_event(data))
