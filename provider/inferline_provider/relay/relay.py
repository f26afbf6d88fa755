"""From the backend's response to the task's chunks: the answer as it comes, through its stages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from inferline.fleet.enrolment import Terms
from inferline.http.errors import HttpError, Silence
from inferline.http.response import Response
from inferline.streams.reported_error import error_body, kind_of, status_of
from inferline.streams.sse import Event
from inferline.tasks.store import AttemptOutcome
from inferline.validation.output_rules import is_media
from inferline_provider.backend.classification import Finish, classify_media, classify_response
from inferline_provider.faults import (
    BackendAnswer,
    BadAnswer,
    BrokenOff,
    CannotContinueHere,
    SilentTooLong,
)
from inferline_provider.relay.alias import Rename, Renaming
from inferline_provider.relay.framing import JSON, Framing, lines, reported, whole_type
from inferline_provider.relay.resumable import ResumableWatch
from inferline_provider.relay.splice import Splice
from inferline_provider.relay.stage import EventPipeline, EventSink, EventStage
from inferline_provider.relay.usage import UsageReader
from inferline_provider.relay.usage_question import UsageAsker, is_refusal
from inferline_provider.relay.verification import Verification, choices_in

OK: Final = 200


class Relay:
    """
    The relay of one answer. The events of a stream pass through stages, each as it comes:

    parse (`Framing`) → splice → usage → verification → watch → renaming → chunks.
    """

    def __init__(
        self,
        terms: Terms,
        path: str,
        body: bytes,
        stream: EventSink,
        *,
        rename: Rename | None = None,
        on_event: Callable[[], None] = lambda: None,
        hides_usage: bool = False,
        usage_asker: UsageAsker | None = None,
        splice: Splice | None = None,
        watch: ResumableWatch | None = None,
        can_go_on: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Relay the answer to `body`, or its rest, which `splice` joins to what others began.

        `watch` sees the events, and `on_event` is called with each; `can_go_on` says if another
        attempt could follow.
        """
        self._terms = terms
        self._path = path
        self._format = kind_of(path)
        self._stream = stream
        self._rename = rename
        self._hides_usage = hides_usage
        self._splice = splice
        self._usage = UsageReader(hides=hides_usage, asker=usage_asker)
        is_finished = splice is not None and splice.is_finished
        self._verification = Verification(
            path,
            choices=0 if is_finished else choices_in(path, body),
            is_begun=lambda: stream.begun,
            can_go_on=can_go_on,
            on_event=on_event,
        )
        splicing = [] if splice is None else [splice]
        watching = [] if watch is None else [watch]
        renaming = [] if rename is None else [Renaming(rename)]
        last: list[EventStage] = [self._verification, *watching, *renaming]
        self._stages = EventPipeline(*splicing, self._usage, *last)
        #: The stages behind the usage.
        self._last_stages = EventPipeline(*last)

    async def run(self, response: Response) -> Finish:
        """
        Relay the answer to its end and return how the task finishes.

        Raises Fault, or the store's Unavailable.
        """
        try:
            async with aclosing(self._pieces(response)) as pieces:
                answer = await self._answer(response, pieces)
        except Silence as error:
            raise SilentTooLong from error
        except HttpError as error:
            raise BrokenOff(f"The backend's answer broke off: {type(error).__name__}.") from error
        if isinstance(answer, Finish):
            return answer
        return self._whole(answer, response.headers)

    async def _pieces(self, response: Response) -> AsyncGenerator[bytes]:
        """Yield the body as it comes. Raises BadAnswer when it is too large."""
        received = 0
        async with aclosing(response.pieces()) as pieces:
            async for data in pieces:
                response.silence_seconds = self._terms.gap_seconds_max
                received += len(data)
                if received > self._terms.answer_bytes_max:
                    raise BadAnswer("The backend's answer is too large.")
                yield data

    async def _answer(
        self, response: Response, pieces: AsyncGenerator[bytes]
    ) -> BackendAnswer | Finish:
        """Relay a stream to its end; return any other answer, and a stream's error, whole."""
        content_type = response.headers.get("content-type", JSON)
        first = await anext(pieces, b"")
        while not first.strip() and (more := await anext(pieces, b"")):
            first += more  # Blanks keep a connection open and have no meaning.
        framing = Framing(self._format, content_type, first) if response.status == OK else None
        if framing is None or not framing.content_type:
            body = first + b"".join([piece async for piece in pieces])
            framing = lines(self._format, body) if response.status == OK else None
            if framing is None:
                kind = whole_type(content_type, self._path)
                return BackendAnswer(response.status, kind, reported(self._format, body))
            first = body
        self._stream.head(OK, framing.content_type)
        await self._relay_events(framing, first, pieces)
        if (error := self._verification.refusal) is not None:
            self._stream.discard()
            return BackendAnswer(status_of(error), JSON, error_body(error))
        headers = response.headers
        is_framed = "transfer-encoding" in headers or "content-length" in headers
        self._verification.conclude(is_framed=is_framed)
        return Finish(self._outcome(OK, framing.content_type))

    async def _relay_events(
        self, framing: Framing, first: bytes, pieces: AsyncGenerator[bytes]
    ) -> None:
        """Pass events through the stages until the last one."""
        if self._splice is not None:
            self._put(self._last_stages.feed(self._splice.begin()))
        stream, feed, verification = self._stream, self._stages.feed, self._verification
        data = first
        while data:
            for event in feed(framing.feed(data)):
                stream.put(event.raw)
            if verification.is_over:
                return
            await stream.drained()
            data = await anext(pieces, b"")
        self._put(self._stages.feed(framing.close()))
        if not verification.is_over:
            self._put(self._stages.end())

    def _put(self, events: Iterable[Event]) -> None:
        for event in events:
            self._stream.put(event.raw)

    def _whole(self, answer: BackendAnswer, headers: Mapping[str, str]) -> Finish:
        """Return how a task finishes with an answer that is no stream. Raises Fault."""
        if 200 <= answer.status < 300 and is_media(answer.content_type):
            answer = classify_media(answer)
        else:
            answer = classify_response(answer, headers)
        if answer.status < 300:
            self._usage.see(answer.body)
        outcome = self._outcome(answer.status, answer.content_type)
        body = self._rename(answer.body) if self._rename else answer.body
        finish = Finish(replace(outcome, headers=dict(answer.headers)), body)
        if self._splice is not None and not (self._hides_usage and is_refusal(finish)):
            raise CannotContinueHere(
                "The backend does not go on with an answer that was begun elsewhere."
            )
        return finish

    def _outcome(self, status: int, content_type: str) -> AttemptOutcome:
        return AttemptOutcome(status=status, content_type=content_type, usage=self._usage.usage)
