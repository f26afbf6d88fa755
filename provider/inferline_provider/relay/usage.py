"""A stream's usage: asked of the backend when the client did not ask, and then not passed on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from inferline.streams.endings import may_finish
from inferline.streams.sse import Event, is_done
from inferline_provider.backend.classification import PARSED_BYTES_MAX, Finish, parse, usage_of
from inferline_provider.relay import edits

#: The endpoints whose streams tell of their usage only to who asks; the others always do.
_PATHS: Final = ("/chat/completions", "/v1/completions")
_OPTIONS: Final = "stream_options"
_INCLUDE: Final = "include_usage"
#: With it vLLM tells of usage in every event once it is asked: those would not be the client's.
_EVERYWHERE: Final = "continuous_usage_stats"
#: How much of a large answer is read for its usage.
_USAGE_BYTES_MAX: Final = 4096
_FINGERPRINT: Final = "system_fingerprint"
#: What an event that tells of usage says because of that: the number of tokens, and what vLLM has
#: measured. All else would stand in an answer's last event if nobody had asked.
_ASKED_FOR: Final = frozenset({"choices", "usage", "metrics"})


class UsageAsker:
    """Asks for the usage of every stream, until the backend shows that it knows no such option."""

    def __init__(self) -> None:
        self._stopped = False
        #: A model, and the fingerprint of its server as the last answer wrote it.
        self.fingerprint: tuple[str, bytes] = ("", b"")

    def ask(self, path: str, body: bytes) -> bytes | None:
        """
        Return ``body`` with the question in it, every other byte as it is.

        None when there is nothing to ask: no such stream, or the client has asked itself.
        """
        if self._stopped or not path.endswith(_PATHS) or b'"stream"' not in body:
            return None
        return _asking(body)

    def stop(self) -> None:
        """Ask no more: the backend answers only who does not."""
        self._stopped = True


def is_refusal(finish: Finish) -> bool:
    """Say whether the backend may have refused nothing but the question."""
    return finish.outcome.status in (400, 422) and _OPTIONS.encode() in finish.rest


class UsageReader:
    """
    Reads the usage in an answer's events as they go by.

    When only we have asked (``hides``), the event that tells of nothing else is left out. What
    would have stood at the end of the event before goes there, so that the client gets what it
    would have got: the timings of llama.cpp, the fingerprint of vLLM. That one would stand at the
    end of each choice: of several, the earlier ones get the one that the last answer had.
    """

    def __init__(self, *, hides: bool, asker: UsageAsker | None = None) -> None:
        self._hides = hides
        self._asker = asker or UsageAsker()
        self._held: Event | None = None
        #: The first and the last event with a usage: a Messages stream tells in both.
        self._first = b""
        self._last = b""

    @property
    def usage(self) -> dict[str, int]:
        """Token counts by the names that the backend has for them; those told last count."""
        return {**_told(self._first), **_told(self._last)}

    def see(self, data: bytes) -> None:
        """Take note of an event's data, or of a whole answer."""
        if b'"usage"' in data:
            self._first = self._first or data
            self._last = data

    def passing(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield what is to be passed on, now that ``events`` have come."""
        for event in events:
            self.see(event.data)
            if not self._hides:
                yield event
                continue
            before = self.rest()
            alone = _alone(event)
            if alone is not None:
                before = [self._with_rest(one, event, alone) for one in before]
            elif before and not is_done(event):
                before = [self._with_fingerprint(one) for one in before]
            yield from before
            if alone is None and may_finish(event.data):
                self._held = event
            elif alone is None:
                yield event

    def rest(self) -> list[Event]:
        """Return what was held back."""
        held, self._held = self._held, None
        return [] if held is None else [held]

    def _with_rest(self, held: Event, event: Event, alone: dict[str, Any]) -> Event:
        """Return ``held`` with what stands in ``event`` instead of in it because we have asked."""
        before = parse(held.data)
        if not isinstance(before, dict):
            return held
        more = [name for name in alone if name not in before and name not in _ASKED_FOR]
        written = edits.fields(event.data) if more else {}
        if _FINGERPRINT in more:
            self._asker.fingerprint = (str(alone.get("model")), written[_FINGERPRINT])
        return _with_fields(held, [written[name] for name in more])

    def _with_fingerprint(self, held: Event) -> Event:
        """Return ``held`` with the fingerprint that it would have if nobody had asked."""
        model, written = self._asker.fingerprint
        before = parse(held.data) if written else None
        if not isinstance(before, dict) or _FINGERPRINT in before or before.get("model") != model:
            return held
        return _with_fields(held, [written])


def _told(data: bytes) -> dict[str, int]:
    """Return the usage in an event or an answer; of a large one only that place is read."""
    if len(data) <= PARSED_BYTES_MAX:
        return usage_of(parse(data))
    at = data.rfind(b'"usage"') + len(b'"usage"')
    text = data[at : at + _USAGE_BYTES_MAX].decode(errors="replace").lstrip(" \t\r\n:")
    try:
        return usage_of({"usage": json.JSONDecoder().raw_decode(text)[0]})
    except (ValueError, RecursionError):
        return {}


def _asking(body: bytes) -> bytes | None:
    document = edits.read(body)
    wanted = _wanted(document)
    return None if wanted is None else edits.first(_changes(body, document), wanted)


def _wanted(document: Any) -> dict[str, Any] | None:
    """Return the request as it should be; None when it is to stay as it is."""
    if not isinstance(document, dict) or document.get("stream") is not True:
        return None
    options = document.get(_OPTIONS)
    if options is None:
        options = {}
    if not isinstance(options, dict) or options.get(_EVERYWHERE):
        return None
    if options.get(_INCLUDE) not in (None, False):
        return None
    return {**document, _OPTIONS: {**options, _INCLUDE: True}}


def _changes(body: bytes, document: dict[str, Any]) -> Iterator[bytes]:
    """Yield the ways in which the question may be written into ``body``, the likely ones first."""
    options = document.get(_OPTIONS)
    if _OPTIONS not in document:
        end = body.rindex(b"}")
        yield body[:end] + b',"stream_options":{"include_usage":true}' + body[end:]
    elif options is None:
        yield from edits.replaced(
            body, rb'"stream_options"\s*:\s*(null)', b'{"include_usage":true}'
        )
    elif _INCLUDE in options:
        yield from edits.replaced(body, rb'"include_usage"\s*:\s*(false|null)', b"true")
    else:
        more = b"," if options else b""
        found = rb'"stream_options"\s*:\s*\{()'
        yield from edits.replaced(body, found, b'"include_usage":true' + more)


def _alone(event: Event) -> dict[str, Any] | None:
    """Return what an event tells that tells of usage and has no part of the answer."""
    if b'"usage"' not in event.data:
        return None
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
