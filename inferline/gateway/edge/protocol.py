"""HTTP/1.1 at the gateway's port: who offers to speak another protocol is served in this one."""

from __future__ import annotations

from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: What tells how long a body is.
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class Http1Protocol(HttpToolsProtocol):
    """
    uvicorn's protocol, but a request that offers an upgrade keeps its body.

    Java's client and `curl --http2` offer one with each POST, without waiting for an answer.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.parser: _Parser = _Parser(self)  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        """Note that the request's body is there, unless the parser has only given up on it."""
        if not self.parser.gives_up:
            super().on_message_complete()


class _Parser:
    """
    httptools' parser, but it goes on where that stops: behind the headers of an offered upgrade,
    as if they were the end of all HTTP.
    """

    def __init__(self, protocol: Http1Protocol) -> None:
        self._protocol = protocol
        self._use(_lenient(protocol))

    @property
    def gives_up(self) -> bool:
        """Return whether a body follows that the parser takes for another protocol."""
        return self.should_upgrade() and bool(self._framing())

    def feed_data(self, data: bytes) -> None:
        """Parse what the client sends next. Raises HttpParserError."""
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offered:
                data = data[offered.args[0] :]
                if self.gives_up:
                    self._go_on()
            else:
                return

    def _go_on(self) -> None:
        """Have another parser take the body, once it knows how long that is."""
        framing = b"".join(b"%s: %s\r\n" % header for header in self._framing())
        self._use(_lenient(_Rest(self._protocol)))
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")

    def _use(self, parser: httptools.HttpRequestParser) -> None:
        self._parser = parser
        self.get_http_version = parser.get_http_version
        self.get_method = parser.get_method
        self.should_keep_alive = parser.should_keep_alive
        self.should_upgrade = parser.should_upgrade

    def _framing(self) -> list[tuple[bytes, bytes]]:
        return [header for header in self._protocol.headers if header[0] in _FRAMING]


class _Rest:
    """Callbacks of a parser, without the head that both know already."""

    def __init__(self, protocol: Http1Protocol) -> None:
        self._protocol = protocol
        self._is_known = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        """Start another request, or the known one again."""
        if not self._is_known:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Ignore a part of the address."""
        if not self._is_known:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read one header."""
        if not self._is_known:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        """Note that the headers are complete."""
        if not self._is_known:
            self._protocol.on_headers_complete()
        self._is_known = False


def _lenient(protocol: object) -> httptools.HttpRequestParser:
    """
    Return a parser as uvicorn sets it up: a client may send on after the last answer that it wants.
    """
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
