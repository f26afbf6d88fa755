"""From the backend's connection to the task's rows: an answer as it comes, and if it is whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from inferline.fleet.enrolment import Terms
from inferline.http.errors import HttpError, Silence
from inferline.http.response import Response
from inferline.streams.endings import Ending, document_of
from inferline.streams.reported_error import (
    error_body,
    error_event,
    is_in_shape,
    kind_of,
    status_of,
)
from inferline.streams.sse import Event, is_done
from inferline.tasks.store import AttemptOutcome
from inferline.validation.output_rules import is_media
from inferline.validation.payload import choices_of
from inferline_provider.backend.classification import (
    Finish,
    classify_media,
    classify_response,
    parse,
)
from inferline_provider.faults import BackendAnswer, BadAnswer, CannotContinueHere, SilentTooLong
from inferline_provider.relay.chunks import ChunkStream
from inferline_provider.relay.continuation import Splice
from inferline_provider.relay.framing import JSON, Framing, lines, reported, whole_type
from inferline_provider.relay.usage import UsageAsker, UsageReader, is_refusal

OK: Final = 200

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
        usage_asker: UsageAsker | None = None,
        splice: Splice | None = None,
        can_go_on: Callable[[], bool] = lambda: False,
    ) -> None:
        self._terms = terms
        self._path = path
        self._kind = kind_of(path)
        is_over = splice is not None and splice.is_finished
        self._ending = Ending(path, choices=0 if is_over else _choices(path, body))
        self._stream = stream
        self._rename = rename
        #: Called with each event of a stream that is passed on.
        self._on_event = on_event
        self._hides_usage = hides_usage
        self._meter = UsageReader(hides=hides_usage, asker=usage_asker)
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
        try:
            async with aclosing(self._pieces(response)) as pieces:
                answer = await self._answer(response, pieces)
        except Silence as error:
            raise SilentTooLong from error
        except HttpError as error:
            raise BadAnswer(f"The backend's answer broke off: {type(error).__name__}.") from error
        if isinstance(answer, Finish):
            return answer
        return self._whole(answer, response.headers)

    async def _answer(
        self, response: Response, pieces: AsyncGenerator[bytes]
    ) -> BackendAnswer | Finish:
        """Relay a stream to its end; return any other answer, and a stream's error, whole."""
        labelled = response.headers.get("content-type", JSON)
        first = await anext(pieces, b"")
        while not first.strip() and (more := await anext(pieces, b"")):
            first += more  # Blanks keep a connection open, and tell nothing.
        framing = Framing(self._kind, labelled, first) if response.status == OK else None
        if framing is None or not framing.content_type:
            body = first + b"".join([piece async for piece in pieces])
            framing = lines(self._kind, body) if response.status == OK else None
            if framing is None:
                kind = whole_type(labelled, self._path)
                return BackendAnswer(response.status, kind, reported(self._kind, body))
            first = body
        self._stream.head(OK, framing.content_type)
        error = await self._relay_events(framing, first, pieces)
        if error is not None:
            return BackendAnswer(status_of(error), JSON, error_body(error))
        headers = response.headers
        # The end of a body that tells where it ends is no end of a connection that merely broke.
        self._ending.done |= "transfer-encoding" in headers or "content-length" in headers
        # The backend's own error is an answer: the client gets it.
        if self._ending.error is None and not (self._ending.complete and self._passed_on):
            raise BadAnswer("The backend's stream ended before its answer did.")
        return Finish(self._outcome(OK, framing.content_type))

    async def _pieces(self, response: Response) -> AsyncGenerator[bytes]:
        """The body as it comes. Raises Broken when it is too large."""
        received = 0
        async with aclosing(response.pieces()) as pieces:
            async for data in pieces:
                response.silence_seconds = self._terms.gap_seconds_max
                received += len(data)
                if received > self._terms.answer_bytes_max:
                    raise BadAnswer("The backend's answer is too large.")
                yield data

    def _outcome(self, status: int, content_type: str) -> AttemptOutcome:
        return AttemptOutcome(status=status, content_type=content_type, usage=self._meter.usage)

    async def _relay_events(
        self, framing: Framing, first: bytes, pieces: AsyncGenerator[bytes]
    ) -> Mapping[str, Any] | None:
        """Pass the events on; return an error that was told while nothing was out."""
        if self._splice is not None and (begin := self._splice.begin()) is not None:
            self._pass_all([begin])
        data = first
        while data:
            error = self._pass_all(self._meter.passing(self._spliced(framing.feed(data))))
            if error is not None or self._ending.done:
                return error
            await self._stream.room()
            data = await anext(pieces, b"")
        last = self._meter.passing(self._spliced(framing.close()))
        return self._pass_all([*last, *self._meter.rest()])

    def _spliced(self, events: list[Event]) -> list[Event]:
        if self._splice is None:
            return events
        changed = map(self._splice.change, events)
        return [event for event in changed if event is not None]

    def _pass_all(self, events: Iterable[Event]) -> Mapping[str, Any] | None:
        """Pass events on until the last one; return an error that comes while nothing is out."""
        for event in events:
            before = self._ending.error
            self._ending.see(event)
            error = self._ending.error
            if error is None or error is before:
                self._pass_on(event)
            elif self._stream.begun:
                self._report(event, error)
            else:
                self._stream.discard()
                return error
            if self._ending.done:
                break
        return None

    def _pass_on(self, event: Event) -> None:
        """Pass a part of the answer on. Raises Broken for what is none."""
        if not _looks_whole(event):
            raise BadAnswer("The backend sent an event that is not JSON.")
        ending = self._ending
        if ending.done and not ending.complete and ending.error is None:
            raise BadAnswer("The backend ended its stream before its answer.")
        self._passed_on = True
        self._on_event()
        raw = event.raw
        if self._rename is not None and b'"model"' in event.data and b"\n" not in event.data:
            raw = raw.replace(event.data, self._rename(event.data), 1)
        self._stream.put(raw)

    def _report(self, event: Event, error: Mapping[str, Any]) -> None:
        """
        Pass an error on that came in the middle, as the clients of such streams read it.

        Raises Broken when another attempt may mend it.
        """
        if self._is_passing(error):
            raise BadAnswer("The backend reported an error in the middle of its answer.")
        document = document_of(event.data)
        if is_in_shape(self._kind, document, event.event):
            self._stream.put(event.raw)
            return
        if document.get("choices"):
            self._stream.put(event.raw)
        self._stream.put(error_event(self._kind, error))

    def _is_passing(self, error: Mapping[str, Any]) -> bool:
        """Say whether another attempt may mend an error that came in the middle."""
        status = status_of(error)
        is_clients = status < 500 and status not in (408, 429)
        return not is_clients and self._can_go_on()

    def _whole(self, answer: BackendAnswer, headers: Mapping[str, str]) -> Finish:
        if 200 <= answer.status < 300 and is_media(answer.content_type):
            told = classify_media(answer)
        else:
            told = classify_response(answer, headers)
        if told.status < 300:
            self._meter.see(told.body)
        outcome = replace(self._outcome(told.status, told.content_type), headers=dict(told.headers))
        finish = Finish(outcome, self._rename(told.body) if self._rename else told.body)
        if self._splice is not None and not (self._hides_usage and is_refusal(finish)):
            raise CannotContinueHere(
                "The backend does not go on with an answer that was begun elsewhere."
            )
        return finish


def _looks_whole(event: Event) -> bool:
    """Say whether an event's data has the ends of a JSON object; cheap, for every event."""
    data = event.data
    if data[:1] == b"{" and data[-1:] == b"}":
        return True
    data = data.strip()
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
