"""From the backend's connection to the task's rows: an answer as it comes, and if it is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

import aiohttp

from inferline.endings import Ending
from inferline.enrolment import Terms
from inferline.errors import BackendFailed
from inferline.sse import Event, EventParser
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
        self, terms: Terms, path: str, body: bytes, stream: ChunkStream, rename: Rename | None
    ) -> None:
        self._terms = terms
        self._ending = Ending(path, choices=_choices(path, body))
        self._stream = stream
        self._rename = rename
        self._telling_usage = b""

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
                await self._relay_events(response, limit)
                return Finish(self._outcome(200, content_type))
            body = await self._read(response, limit)
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(f"The backend's answer broke off: {type(error).__name__}.") from error
        return self._whole(response, content_type, body)

    def _outcome(self, status: int, content_type: str) -> Outcome:
        usage = usage_of(_document(self._telling_usage))
        return Outcome(status=status, content_type=content_type, usage=usage)

    async def _relay_events(self, response: aiohttp.ClientResponse, limit: asyncio.Timeout) -> None:
        parser = EventParser()
        received = 0
        try:
            async for data in response.content.iter_any():
                limit.reschedule(_now() + self._terms.gap_seconds_max)
                received += len(data)
                if received > self._terms.answer_bytes_max:
                    raise Broken("The backend's answer is too large.")
                for event in parser.feed(data):
                    await self._pass_on(event)
                    if self._ending.done:
                        return
            await self._pass_on_whole(parser.close())
        except BackendFailed as error:  # An event beyond all bounds.
            raise Broken(str(error)) from error
        # The backend's own error is an answer: the client gets it as it came.
        if self._ending.error is None and not (self._ending.complete and received):
            raise Broken("The backend's stream ended before its answer did.")

    async def _pass_on_whole(self, rest: Iterable[Event]) -> None:
        """Pass on what had no blank line after it, unless it may have been cut in its middle."""
        for event in rest:
            self._ending.see(event)
            if self._ending.complete or self._ending.error is not None:
                await self._forward(event)

    async def _pass_on(self, event: Event) -> None:
        self._ending.see(event)
        await self._forward(event)

    async def _forward(self, event: Event) -> None:
        if b'"usage"' in event.data:
            self._telling_usage = event.data
        raw = event.raw
        if self._rename is not None and b'"model"' in event.data and b"\n" not in event.data:
            raw = raw.replace(event.data, self._rename(event.data), 1)
        await self._stream.put(raw)

    async def _read(self, response: aiohttp.ClientResponse, limit: asyncio.Timeout) -> bytes:
        body = bytearray()
        async for data in response.content.iter_any():
            limit.reschedule(_now() + self._terms.gap_seconds_max)
            body += data
            if len(body) > self._terms.answer_bytes_max:
                raise Broken("The backend's answer is too large.")
        return bytes(body)

    def _whole(self, response: aiohttp.ClientResponse, content_type: str, body: bytes) -> Finish:
        answer = Answer(response.status, content_type, body)
        told = judge(answer, response.headers.get("retry-after"))
        self._telling_usage = told.body if told.status < 300 else b""
        outcome = self._outcome(told.status, told.content_type)
        return Finish(outcome, self._rename(told.body) if self._rename else told.body)


def _choices(path: str, body: bytes) -> int:
    """Return how many answers the request asks for in one stream."""
    chat = path.endswith("/chat/completions")
    if b'"n"' not in body and (chat or b'"prompt"' not in body):
        return 1
    document = _document(body)
    n = document.get("n")
    prompt = document.get("prompt")
    prompts = 1 if chat else _prompts(prompt)
    return prompts * (n if isinstance(n, int) and n > 0 else 1)


def _prompts(prompt: Any) -> int:
    """Return how many prompts these are; a list of integers is one, in tokens."""
    if not isinstance(prompt, list) or not prompt or isinstance(prompt[0], int):
        return 1
    return len(prompt)


def _document(data: bytes) -> dict[str, Any]:
    found = parse(data)
    return found if isinstance(found, dict) else {}


def _now() -> float:
    return asyncio.get_running_loop().time()
