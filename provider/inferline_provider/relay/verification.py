"""Verification of a stream as it passes: each event is whole, and the answer comes to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from inferline.streams.endings import Ending, document_of
from inferline.streams.reported_error import (
    ErrorFormat,
    error_event,
    is_in_shape,
    kind_of,
    status_of,
)
from inferline.streams.sse import Event, EventParser, is_done
from inferline.validation.payload import choices_of
from inferline_provider.backend.classification import parse
from inferline_provider.faults import BadAnswer

#: 4xx statuses of an error that another attempt may mend.
_PASSING: Final = frozenset({408, 429})


class Verification:
    """
    A stage that stops after the last event of an answer, and at an error.

    An error that comes while the client has nothing ends the events: `refusal` has it, and the
    client gets it as a whole answer. A later one is passed on in the shape that the clients of such
    streams read, unless another attempt can go on with the answer.
    """

    def __init__(
        self,
        path: str,
        choices: int,
        *,
        is_begun: Callable[[], bool],
        can_go_on: Callable[[], bool],
        on_event: Callable[[], None],
    ) -> None:
        """
        Expect so many `choices` in the answer of an endpoint.

        `is_begun` says whether a reader may have some of it, `can_go_on` whether another attempt
        could go on with it; `on_event` is called with each event that is passed on.
        """
        self._ending = Ending(path, choices=choices)
        self._format: ErrorFormat = kind_of(path)
        self._is_begun = is_begun
        self._can_go_on = can_go_on
        self._on_event = on_event
        self._passed_on = False
        #: The error that came while nothing was out.
        self.refusal: Mapping[str, Any] | None = None
        #: Whether nothing more is to be read.
        self.is_over = False

    def feed(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield the events up to the last. Raises BadAnswer for what is no part of an answer."""
        ending = self._ending
        for event in events:
            before = ending.error
            ending.see(event)
            error = ending.error
            if error is None or error is before:
                data = event.data
                if data[:1] != b"{" or data[-1:] != b"}" or ending.done:
                    self._check(event)
                self._passed_on = True
                self._on_event()
                yield event
            elif self._is_begun():
                yield from self._reported(event, error)
            else:
                self.refusal, self.is_over = error, True
                return
            if ending.done:
                self.is_over = True
                return

    def end(self) -> Iterable[Event]:
        """Return nothing: no event is held back."""
        return ()

    def conclude(self, *, is_framed: bool) -> None:
        """
        Check that the answer is whole, now that its last event is past. Raises BadAnswer.

        `is_framed`: its body said where it ends, so that the connection did not merely break.
        """
        self._ending.done |= is_framed
        # The backend's own error is an answer: the client gets it.
        if self._ending.error is None and not (self._ending.complete and self._passed_on):
            raise BadAnswer("The backend's stream ended before its answer did.")

    def _check(self, event: Event) -> None:
        """Check an event that is the last, or whose data is unlike most. Raises BadAnswer."""
        data = event.data.strip()
        if not (data[:1] == b"{" and data[-1:] == b"}") and not is_done(event):
            raise BadAnswer("The backend sent an event that is not JSON.")
        ending = self._ending
        if ending.done and not ending.complete and ending.error is None:
            raise BadAnswer("The backend ended its stream before its answer.")

    def _reported(self, event: Event, error: Mapping[str, Any]) -> Iterator[Event]:
        """Yield a late error. Raises BadAnswer if another attempt may mend it."""
        status = status_of(error)
        is_clients = status < 500 and status not in _PASSING
        if not is_clients and self._can_go_on():
            raise BadAnswer("The backend reported an error in the middle of its answer.")
        document = document_of(event.data)
        if is_in_shape(self._format, document, event.event):
            yield event
            return
        if document.get("choices"):
            yield event
        yield from EventParser().feed(error_event(self._format, error))


def choices_in(path: str, body: bytes) -> int:
    """Return how many answers a request asks for in one stream."""
    chat = path.endswith("/chat/completions")
    if b'"n"' not in body and (chat or b'"prompt"' not in body):
        return 1
    document = parse(body)
    if not isinstance(document, dict):
        document = {}
    if chat:
        document.pop("prompt", None)
    return choices_of(document)
