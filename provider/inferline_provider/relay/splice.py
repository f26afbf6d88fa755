"""The rest of an answer that others began, made of the events of this attempt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from inferline.streams.endings import document_of, finish_reason
from inferline.streams.sse import Event, data_event
from inferline_provider.faults import NotRepeated
from inferline_provider.relay.delivered import Delivered

DONE: Final = b"data: [DONE]\n\n"


class Splice:
    """
    A stage that makes the events of this attempt the rest of the stream that others began.

    They carry the ids that the stream began with, do not repeat the role, and count the tokens of
    the whole answer.
    """

    def __init__(self, left: Delivered, tokens: int, *, is_over: bool, repeat: str = "") -> None:
        """
        Continue `left`, which has so many `tokens`; `repeat` is the part that will come again.

        `is_over`: its text is at its end, and only the usage is wanted.
        """
        self.after = left.after
        self.content_type = left.content_type
        self._left = left
        self._tokens = tokens
        self._is_over = is_over
        self._repeat = "" if is_over else repeat

    def begin(self) -> list[Event]:
        """Return what comes before the backend's events: the text has reached its length, if so."""
        if not self._is_over or self._left.finished:
            return []
        chat = self._left.envelope.get("object") == "chat.completion.chunk"
        text: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        choice = {"index": 0, **text, "finish_reason": "length"}
        return [_event({**self._left.envelope, "choices": [choice]})]

    @property
    def is_finished(self) -> bool:
        """Return True if an event has said that the text is at its end."""
        return self._left.finished

    def rest(self) -> bytes:
        """Return what is missing where the backend is not needed: `[DONE]`, unless it came."""
        return b"" if self._left.done else DONE

    def feed(self, events: Iterable[Event]) -> list[Event]:
        """
        Return the events as they continue the stream.

        Raises NotRepeated when the part that should come again is another one.
        """
        changed = map(self._changed, events)
        return [event for event in changed if event is not None]

    def end(self) -> Iterable[Event]:
        """Return nothing: no event is held back."""
        return ()

    def _changed(self, event: Event) -> Event | None:
        """Return an event as it continues the stream; None when it is left out."""
        document = document_of(event.data)
        choices = document.get("choices")
        if choices is None and isinstance(document.get("usage"), dict):
            choices = []
        if not isinstance(choices, list) or document.get("error"):
            return event  # The end, an error or unreadable: the next stages deal with it.
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
        """Remove from a choice what the client has; say whether anything is left."""
        if not isinstance(choice, dict):
            return True
        delta, is_empty = choice.get("delta"), False
        if isinstance(delta, dict) and "role" in delta:
            del delta["role"]
            if not delta.get("content"):
                delta.pop("content", None)
            is_empty = not delta
        if self._repeat:
            name, part = ("content", delta) if isinstance(delta, dict) else ("text", choice)
            self._leave_out(part, name, choice)
            is_empty = not part.get(name)
        return not is_empty or bool(finish_reason(choice))

    def _leave_out(self, part: dict[str, Any], name: str, choice: Mapping[str, Any]) -> None:
        """Remove text that the client has. Raises NotRepeated when it is another one."""
        text = part.get(name)
        text = text if isinstance(text, str) else ""
        count = min(len(text), len(self._repeat))
        is_short = bool(finish_reason(choice)) and count < len(self._repeat)
        if text[:count] != self._repeat[:count] or is_short:
            raise NotRepeated("The backend does not repeat the beginning of its answer.")
        self._repeat = self._repeat[count:]
        if count:
            part[name] = text[count:]

    def _usage(self, usage: dict[str, Any]) -> dict[str, Any]:
        """Return the tokens of the whole answer: the text behind the prompt is part of it."""
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if type(prompt) is not int or type(completion) is not int:
            return usage
        tokens = min(self._tokens, prompt)
        completion = tokens + (0 if self._is_over else completion)
        prompt -= tokens
        whole: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
        whole["total_tokens"] = prompt + completion
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict) and type(details.get("cached_tokens")) is int:
            cached = min(details["cached_tokens"], prompt)
            whole["prompt_tokens_details"] = {**details, "cached_tokens": cached}
        return {**usage, **whole}


def _event(document: dict[str, Any]) -> Event:
    data = json.dumps(document, separators=(",", ":")).encode()
    return Event(None, data, data_event(data))
