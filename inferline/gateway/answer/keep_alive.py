"""Keep-alive: bytes that keep proxies from closing the connection of a silent answer."""

from __future__ import annotations

from math import inf
from typing import Final

from inferline.gateway.answer.sender import EVENT_STREAM, Sender
from inferline.settings import Settings
from inferline.streams.sse import comment
from inferline.tasks.task import AnswerHead
from inferline.validation.output_rules import may_be_media

PING: Final = comment("ping")
#: White space may come before JSON.
BLANK: Final = b" "


class KeepAlive:
    """Keep-alive bytes, which clients ignore, sent while a backend is silent."""

    def __init__(self, settings: Settings, path: str, now: float, *, streamed: bool) -> None:
        """``now`` and all times are of one clock, seconds."""
        self._begun = self._sent_at = now
        if streamed:
            self._start_seconds = settings.first_byte_wait_seconds
            self._every_seconds = settings.ping_seconds
            self._type, self._bytes = f"{EVENT_STREAM}; charset=utf-8", PING
        else:
            seconds = inf if may_be_media(path) else settings.keepalive_after_seconds
            self._start_seconds = self._every_seconds = seconds
            self._type, self._bytes = "application/json", BLANK

    async def send_if_due(self, sender: Sender, now: float, changed_at: float) -> None:
        """Send the head, or keep-alive bytes, if nothing was sent for long enough."""
        if not sender.started and now - self._begun > self._start_seconds:
            await sender.start(AnswerHead(200, self._type, "", 0))
        if sender.started and now - max(changed_at, self._sent_at) > self._every_seconds:
            self._sent_at = now
            message = {"type": "http.response.body", "body": self._bytes, "more_body": True}
            await sender.send(message)
