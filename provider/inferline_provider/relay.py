"""From the backend's connection to the task's rows: an answer as it comes, and if it is whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

import aiohttp

from inferline.endings import Ending
from inferline.enrolment import Terms
from inferline.errors import BackendFailed
from inferline.payload import choices_of
from inferline.sse import Event, EventParser, is_done
from inferline.store import Outcome
from inferline_provider.chunks import ChunkStream
from inferline_provider.verdict import Answer, Broken, Finish, judge, parse, usage_of

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
        on_first: Callable[[], None] = lambda: None,
    ) -> None:
        self._terms = terms
        self._ending = Ending(path, choices=_choices(path, body))
        self._stream = stream
        self._rename = rename
        #: Called with the first event of a stream that is passed on.
        self._on_first = on_first
        self._telling_usage = b""
        self._passed_on = False

    async def run(self, response: aiohttp.ClientResponse, limit: asyncio.Timeout) -> Finish:
        """
        Relay the answer to its end and say how the task finishes.

        `limit` bounds the wait for the first byte; from then on it is moved to bound each gap.
        Raises Fault, or the store's Unavailable.
        """
        content_type = response.headers.get("content-type", _JSON)
        try:
            if response.status == 200 and content_type.lower().startswith(_EVENTS):
                self._stream.head(200, content_type)
                failed = await self._relay_events(response, limit)
                if failed is None:
                    return Finish(self._outcome(200, content_type))
                answer = Answer(200, _JSON, failed.data)
            else:
                body = await self._read(response, limit)
                answer = Answer(response.status, content_type, body)
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(f"The backend's answer broke off: {type(error).__name__}.") from error
        return self._whole(answer, response.headers.get("retry-after"))

    def _outcome(self, status: int, content_type: str) -> Outcome:
        usage = usage_of(_document(self._telling_usage))
        return Outcome(status=status, content_type=content_type, usage=usage)

    async def _relay_events(
        self, response: aiohttp.ClientResponse, limit: asyncio.Timeout
    ) -> Event | None:
        """Pass the events on; return one that tells of an error before anything else was said."""
        async with aclosing(self._events(response, limit)) as events:
            async for event in events:
                if not await self._pass_on(event):
                    return event
                if self._ending.done:
                    return None
        # The backend's own error is an answer: the client gets it as it came.
        if self._ending.error is None and not (self._ending.complete and self._passed_on):
            raise Broken("The backend's stream ended before its answer did.")
        return None

    async def _events(
        self, response: aiohttp.ClientResponse, limit: asyncio.Timeout
    ) -> AsyncGenerator[Event, None]:
        parser = EventParser()
        received = 0
        try:
            async for data in response.content.iter_any():
                limit.reschedule(_now() + self._terms.gap_seconds_max)
                received += len(data)
                if received > self._terms.answer_bytes_max:
                    raise Broken("The backend's answer is too large.")
                for event in parser.feed(data):
                    yield event
        except BackendFailed as error:  # An event beyond all bounds.
            raise Broken(str(error)) from error
        for event in parser.close():
            # It had no blank line after it, and may have been cut in its middle.
            if is_done(event) or parse(event.data) is not None:
                yield event

    async def _pass_on(self, event: Event) -> bool:
        """Pass an event on; False for an error while nothing is out, which is still a real one."""
        if not _looks_whole(event):
            raise Broken("The backend sent an event that is not JSON.")
        self._ending.see(event)
        if self._ending.error is not None and not self._passed_on:
            return False
        if not self._passed_on:
            self._passed_on = True
            self._on_first()
        if b'"usage"' in event.data:
            self._telling_usage = event.data
        raw = event.raw
        if self._rename is not None and b'"model"' in event.data and b"\n" not in event.data:
            raw = raw.replace(event.data, self._rename(event.data), 1)
        await self._stream.put(raw)
        return True

    async def _read(self, response: aiohttp.ClientResponse, limit: asyncio.Timeout) -> bytes:
        body = bytearray()
        async for data in response.content.iter_any():
            limit.reschedule(_now() + self._terms.gap_seconds_max)
            body += data
            if len(body) > self._terms.answer_bytes_max:
                raise Broken("The backend's answer is too large.")
        return bytes(body)

    def _whole(self, answer: Answer, retry_after: str | None) -> Finish:
        told = judge(answer, retry_after)
        self._telling_usage = told.body if told.status < 300 else b""
        outcome = self._outcome(told.status, told.content_type)
        return Finish(outcome, self._rename(told.body) if self._rename else told.body)


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


def _now() -> float:
    return asyncio.get_running_loop().time()
