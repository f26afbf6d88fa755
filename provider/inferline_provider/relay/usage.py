"""Usage of an answer: read from its events, and hidden from a client that did not ask for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from inferline.streams.endings import may_finish
from inferline.streams.sse import Event, is_done
from inferline_provider.backend.classification import PARSED_BYTES_MAX, parse, usage_of
from inferline_provider.relay import edits
from inferline_provider.relay.usage_question import UsageAsker

#: How much of a large answer is read for its usage.
_USAGE_BYTES_MAX: Final = 4096
_FINGERPRINT: Final = "system_fingerprint"
#: Fields that an event with usage has because of the question: the number of tokens, and what vLLM
#: has measured. All else would stand in an answer's last event if nobody had asked.
_ASKED_FOR: Final = frozenset({"choices", "usage", "metrics"})


class UsageReader:
    """
    A stage that reads the usage in an answer's events.

    When only the provider has asked (`hides`), the event that has nothing but the usage is left
    out. The fields that the last event before it would have had go there, so that the client gets
    the same answer: the timings of llama.cpp, the fingerprint of vLLM. That one would stand at the
    end of each choice: of several, the earlier ones get the one that the last answer had.
    """

    def __init__(self, *, hides: bool, asker: UsageAsker | None = None) -> None:
        self._hides = hides
        self._asker = asker or UsageAsker()
        self._held: Event | None = None
        #: The first and the last event with a usage: a Messages stream reports some in each.
        self._first = b""
        self._last = b""

    @property
    def usage(self) -> dict[str, int]:
        """
        Return the token counts by the backend's names for them; the last report of each counts.
        """
        return {**_usage_in(self._first), **_usage_in(self._last)}

    def see(self, data: bytes) -> None:
        """Take note of an event's data, or of a whole answer."""
        if b'"usage"' in data:
            self._first = self._first or data
            self._last = data

    def feed(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield the events that go on, after those that were held back."""
        for event in events:
            alone = None
            if b'"usage"' in event.data:
                self.see(event.data)
                alone = _usage_alone(event) if self._hides else None
            if (held := self._held) is not None:
                self._held = None
                if alone is not None:
                    yield self._with_rest(held, event, alone)
                else:
                    yield held if is_done(event) else self._with_fingerprint(held)
            if alone is None:
                if self._hides and may_finish(event.data):
                    self._held = event
                else:
                    yield event

    def end(self) -> list[Event]:
        """Return what was held back."""
        held, self._held = self._held, None
        return [] if held is None else [held]

    def _with_rest(self, held: Event, event: Event, alone: dict[str, Any]) -> Event:
        """Return `held` with the fields that stand in `event` only because we have asked."""
        before = parse(held.data)
        if not isinstance(before, dict):
            return held
        more = [name for name in alone if name not in before and name not in _ASKED_FOR]
        written = edits.fields(event.data) if more else {}
        if _FINGERPRINT in more:
            self._asker.fingerprint = (str(alone.get("model")), written[_FINGERPRINT])
        return _with_fields(held, [written[name] for name in more])

    def _with_fingerprint(self, held: Event) -> Event:
        """Return `held` with the fingerprint that it would have if nobody had asked."""
        model, written = self._asker.fingerprint
        before = parse(held.data) if written else None
        if not isinstance(before, dict) or _FINGERPRINT in before or before.get("model") != model:
            return held
        return _with_fields(held, [written])


def _usage_in(data: bytes) -> dict[str, int]:
    """Return the usage in an event or an answer; only a part of a large one is read."""
    if len(data) <= PARSED_BYTES_MAX:
        return usage_of(parse(data))
    at = data.rfind(b'"usage"') + len(b'"usage"')
    text = data[at : at + _USAGE_BYTES_MAX].decode(errors="replace").lstrip(" \t\r\n:")
    try:
        return usage_of({"usage": json.JSONDecoder().raw_decode(text)[0]})
    except (ValueError, RecursionError):
        return {}


def _usage_alone(event: Event) -> dict[str, Any] | None:
    """Return the document of an event that reports usage and has no part of the answer."""
    document = parse(event.data)
    if not isinstance(document, dict) or document.get("choices") or document.get("error"):
        return None
    return document if isinstance(document.get("usage"), dict) else None


def _with_fields(held: Event, written: list[bytes]) -> Event:
    """Return an event with more fields behind those that it has."""
    data = b",".join([held.data.rstrip()[:-1], *written]) + b"}"
    if not written or not isinstance(parse(data), dict):
        return held
    return Event(held.event, data, held.raw.replace(held.data, data, 1))
