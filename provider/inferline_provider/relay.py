"""From the backend's connection to the task's rows: an answer as it comes, and if it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from inferline.breach import is_answers
from inferline.endings import Ending
from inferline.enrolment import Terms
from inferline.errors import BackendFailed
from inferline.http.errors import HttpError, Silence
from inferline.http.response import Response
from inferline.payload import choices_of
from inferline.sse import Event, EventParser, is_done
from inferline.store import Outcome
from inferline_provider.chunks import ChunkStream
from inferline_provider.continuation import Splice
from inferline_provider.usage import Meter, is_refusal
from inferline_provider.verdict import Answer, Broken, Finish, Unfit, Unheard, judge, parse

_EVENTS: Final = "text/event-stream"
_JSON: Final = "application/json"

#: How an answer's bytes, or one event's data, are changed on their way; see `alias.rename`.
Rename = Callable[[bytes], bytes]


class Relay:
    """Passes on one answer. `stream` is where a streamed one goes, event by event."""

    def __init__(
        self,
        terms: Terms,
        path: str,
        body: bytes,
        stream: ChunkStream,
        rename: Rename | None,
        on_event: Callable[[], None] = lambda: None,
        *,
        hides_usage: bool = False,
        splice: Splice | None = None,
        can_go_on: Callable[[], bool] = lambda: False,
    ) -> None:
        self._terms = terms
        self._ending = Ending(path, choices=_choices(path, body))
        self._stream = stream
        self._rename = rename
        #: Called with each event of a stream that is passed on.
        self._on_event = on_event
        self._hides_usage = hides_usage
        self._meter = Meter(hides=hides_usage)
        #: How this answer becomes the rest of one that others began.
        self._splice = splice
        #: Whether another attempt could go on with what was passed on.
        self._can_go_on = can_go_on
        self._passed_on = False

    async def run(self, response: Response) -> Finish:
        """
        Relay the answer to its end and say how the task finishes.

        Raises Fault, or the store's Unavailable.
        """
        content_type = _content_type(response.headers.get("content-type", _JSON))
        try:
            if response.status == 200 and content_type.lower().startswith(_EVENTS):
                self._stream.head(200, content_type)
                failed = await self._relay_events(response)
                if failed is None:
                    return Finish(self._outcome(200, content_type))
                answer = Answer(200, _JSON, failed.data)
            else:
                answer = Answer(response.status, content_type, await self._read(response))
        except Silence as error:
            raise Unheard from error
        except HttpError as error:
            raise Broken(f"The backend's answer broke off: {type(error).__name__}.") from error
        return self._whole(answer, response.headers)

    def _outcome(self, status: int, content_type: str) -> Outcome:
        return Outcome(status=status, content_type=content_type, usage=self._meter.usage)

    async def _relay_events(self, response: Response) -> Event | None:
        """Pass the events on; return one that tells of an error before anything else was said."""
        if self._splice is not None and (first := self._splice.begin()) is not None:
            self._pass_on(first)
        parser = EventParser()
        received = 0
        async with aclosing(response.pieces()) as pieces:
            async for data in pieces:
                response.silence_seconds = self._terms.gap_seconds_max
                received += len(data)
                if received > self._terms.answer_bytes_max:
                    raise Broken("The backend's answer is too large.")
                failed = self._pass_all(self._meter.passing(self._spliced(_fed(parser, data))))
                if failed is not None or self._ending.done:
                    return failed
                await self._stream.room()
        # The last one had no blank line after it, and may have been cut in its middle.
        last = [one for one in parser.close() if is_done(one) or parse(one.data) is not None]
        failed = self._pass_all([*self._meter.passing(self._spliced(last)), *self._meter.rest()])
        if failed is not None or self._ending.done:
            return failed
        # The backend's own error is an answer: the client gets it as it came.
        if self._ending.error is None and not (self._ending.complete and self._passed_on):
            raise Broken("The backend's stream ended before its answer did.")
        return None

    def _spliced(self, events: list[Event]) -> list[Event]:
        if self._splice is None:
            return events
        changed = map(self._splice.change, events)
        return [event for event in changed if event is not None]

    def _pass_all(self, events: Iterable[Event]) -> Event | None:
        """Pass events on until the last one; return one that is still a real error."""
        for event in events:
            if not self._pass_on(event):
                return event
            if self._ending.done:
                break
        return None

    def _pass_on(self, event: Event) -> bool:
        """Pass an event on; False for an error while nothing is out, which is still a real one."""
        if not _looks_whole(event):
            raise Broken("The backend sent an event that is not JSON.")
        self._ending.see(event)
        if self._ending.error is not None and not self._passed_on:
            return False
        if self._ending.error is not None and self._is_passing(self._ending.error):
            raise Broken("The backend reported an error in the middle of its answer.")
        self._passed_on = True
        self._on_event()
        raw = event.raw
        if self._rename is not None and b'"model"' in event.data and b"\n" not in event.data:
            raw = raw.replace(event.data, self._rename(event.data), 1)
        self._stream.put(raw)
        return True

    def _is_passing(self, error: Mapping[str, Any]) -> bool:
        """Say whether another attempt may mend an error that came in the middle."""
        code = error.get("code")
        is_clients = type(code) is int and 400 <= code < 500 and code not in (408, 429)
        return not is_clients and self._can_go_on()

    async def _read(self, response: Response) -> bytes:
        body = bytearray()
        async with aclosing(response.pieces()) as pieces:
            async for data in pieces:
                response.silence_seconds = self._terms.gap_seconds_max
                body += data
                if len(body) > self._terms.answer_bytes_max:
                    raise Broken("The backend's answer is too large.")
        return bytes(body)

    def _whole(self, answer: Answer, headers: Mapping[str, str]) -> Finish:
        told = judge(answer, headers)
        if told.status < 300:
            self._meter.see(told.body)
        outcome = replace(self._outcome(told.status, told.content_type), headers=dict(told.headers))
        finish = Finish(outcome, self._rename(told.body) if self._rename else told.body)
        if self._splice is not None and not (self._hides_usage and is_refusal(finish)):
            raise Unfit("The backend does not go on with an answer that was begun elsewhere.")
        return finish


def _content_type(told: str) -> str:
    """Return a type that the gateway takes; what is none may still be JSON, which is judged."""
    if is_answers(told):
        return told
    return _EVENTS if told.lower().startswith(_EVENTS) else _JSON


def _looks_whole(event: Event) -> bool:
    """Say whether an event's data has the ends of a JSON object; cheap, for every event."""
    data = event.data
    return (data[:1] == b"{" and data[-1:] == b"}") or is_done(event)


def _choices(path: str, body: bytes) -> int:
    """Return how many answers the request asks for in one stream."""
    chat = path.endswith("/chat/completions")
    if b'"n"' not in body and (chat or b'"prompt"' not in body):
        return 1
    document = _document(body)
    if chat:
        document.pop("prompt", None)
    return choices_of(document)


def _document(data: bytes) -> dict[str, Any]:
    found = parse(data)
    return found if isinstance(found, dict) else {}


def _fed(parser: EventParser, data: bytes) -> list[Event]:
    try:
        return parser.feed(data)
    except BackendFailed as error:  # An event beyond all bounds.
        raise Broken(str(error)) from error
