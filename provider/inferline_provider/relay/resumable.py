"""The watch over a flex task's stream: could it be broken off now, and go on later?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from inferline.streams.endings import document_of
from inferline.streams.sse import Event, is_done
from inferline_provider.faults import CannotContinue
from inferline_provider.relay.continuation import bound_of, holds_back, may_continue
from inferline_provider.relay.delivered import CHAT, Delivered, take
from inferline_provider.relay.framing import EVENTS


def may_suspend(path: str, body: bytes) -> bool:
    """
    Say whether an answer to this request could be broken off at any event and continued for sure.

    Where the server holds back the end of its text, the rest is right only if that comes again;
    and where the client has begun the answer, it is not known how the server takes that.
    """
    document = document_of(body)
    messages = document.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    is_begun = isinstance(last, dict) and last.get("role") == "assistant"
    return may_continue(path, body) and not is_begun and not holds_back(document)


class ResumableWatch:
    """A stage that changes nothing, and sees how far an answer is and whether it is text alone."""

    def __init__(self, path: str, body: bytes) -> None:
        self._is_chat = path.endswith(CHAT)
        self._tokens_max = bound_of(document_of(body))
        self._answer = Delivered(after=(), content_type=EVENTS)
        self._is_text = True
        self._last = ""
        #: How many events had text: nearly all servers send one for each token.
        self.tokens = 0

    @property
    def can_go_on(self) -> bool:
        """
        Return True if the answer could go on behind what has come, and has more than a tenth left.

        Templates drop white space at the end of a text, so that it can't be continued there.
        """
        is_nearly_done = self._tokens_max is not None and 10 * self.tokens > 9 * self._tokens_max
        is_over = self._answer.finished or is_nearly_done
        return self._is_text and not is_over and self._last == self._last.rstrip()

    def feed(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield the events as they are."""
        for event in events:
            self._see(event)
            yield event

    def end(self) -> Iterable[Event]:
        """Return nothing: no event is held back."""
        return ()

    def _see(self, event: Event) -> None:
        if is_done(event) or not self._is_text:
            return
        try:
            texts = take(self._answer, document_of(event.data), chat=self._is_chat)
        except CannotContinue:
            self._is_text = False
            return
        self.tokens += len(texts)
        self._last = texts[-1] if texts else self._last
