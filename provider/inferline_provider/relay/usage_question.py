"""The question for a stream's usage, in requests whose client did not ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from inferline_provider.backend.classification import Finish
from inferline_provider.relay import edits

#: The endpoints whose streams report their usage only when asked; the others always do.
_PATHS: Final = ("/chat/completions", "/v1/completions")
_OPTIONS: Final = "stream_options"
_INCLUDE: Final = "include_usage"
#: With it vLLM reports the usage in every event once it is asked, which the client did not want.
_EVERYWHERE: Final = "continuous_usage_stats"


class UsageAsker:
    """Asks for the usage of every stream, until the backend shows that it knows no such option."""

    def __init__(self) -> None:
        self._stopped = False
        #: A model, and the fingerprint of its server as the last answer had it.
        self.fingerprint: tuple[str, bytes] = ("", b"")

    def ask(self, path: str, body: bytes) -> bytes | None:
        """
        Return ``body`` with the question in it, every other byte as it is.

        None when there is nothing to ask: this is no such stream, or the client asks itself.
        """
        if self._stopped or not path.endswith(_PATHS) or b'"stream"' not in body:
            return None
        return _asking(body)

    def stop(self) -> None:
        """Ask no more: the backend refuses requests with the question."""
        self._stopped = True


def is_refusal(finish: Finish) -> bool:
    """Say whether the backend may have refused nothing but the question."""
    return finish.outcome.status in (400, 422) and _OPTIONS.encode() in finish.rest


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
        place = rb'"stream_options"\s*:\s*\{()'
        yield from edits.replaced(body, place, b'"include_usage":true' + more)
