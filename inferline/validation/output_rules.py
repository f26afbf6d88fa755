"""
The rules for what a provider may write.

A provider writes rows with credentials that were lent to it, so readers trust nothing in them. All
providers of a model have the same rights: it is unknown which of them wrote a row, only who holds
the task.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from inferline.errors import ProviderFault
from inferline.names import NAME
from inferline.tasks.task import CHUNK_BYTES_MAX, TAIL_BYTES_MAX, AnswerHead, Chunk, Task
from inferline.validation.forwarding import may_pass

#: Each breach, and what it is, for whoever runs the provider.
MEANINGS: Final[Mapping[str, str]] = {
    "row": "a task's row that is none, or in which it changed what is not its own",
    "chunk": "a chunk that is none, or too large",
    "head": "a status, a content type or a name that no answer has",
    "attempt": "an attempt that it may not make",
    "size": "more bytes than an answer may have",
    "pieces": "more chunks than an answer of that size and time has",
    "missing": "an ended answer without its chunks",
    "usage": "token counts that can't be",
}

#: A row's numbers, and its texts.
_NUMBERS: Final = (
    *("created_ms", "deadline_ms", "attempt_limit", "ttl", "reader_ms", "attempt", "lease_ms"),
    *("claimed_ms", "lapsed_ms", "status", "chunks"),
)
_TEXTS: Final = (
    *("model", "tier", "tenant", "path", "body_sha256", "identity", "traceparent", "reader"),
    *("owner", "content_type", "unfit"),
)
#: Fields that the gateway wrote, and nobody may change.
_GIVEN: Final = (
    *("model", "tier", "tenant", "path", "query", "request_headers", "body_sha256"),
    *("identity", "created_ms", "deadline_ms"),
)
#: The headers of a failure that a provider may write, and their values.
_HEADERS: Final = {
    "retry-after": re.compile("[0-9]{1,5}"),
    "x-should-retry": re.compile("true|false"),
}
#: Larger, and it is no count, date or duration of ours.
_NUMBER_MAX: Final = 2**53
_STATUSES: Final = range(200, 600)
#: What may stand behind a content type.
_PARAMETERS: Final = r"(?: ?;[ -~]{0,100})?"
#: What backends answer with, nearly all of them.
_DOCUMENT: Final = re.compile(
    rf"(?:application/(?:[a-z0-9.-]+\+)?json|text/event-stream){_PARAMETERS}", re.IGNORECASE
)
#: Texts as speech becomes, sounds, and bytes. No browser shows any of these as a page, as long as
#: it must not guess types.
_MEDIA: Final = re.compile(
    r"(?:text/(?:plain|vtt|srt)|application/(?:octet-stream|x-subrip)|audio/(?:mpeg|mp3|mp4|x-m4a"
    r"|(?:x-|vnd\.)?wav|wave|ogg|opus|webm|(?:x-)?flac|(?:x-)?aac|(?:x-)?pcm|l16|l24|basic))"
    + _PARAMETERS,
    re.IGNORECASE,
)
#: What answers with those. All else is JSON or events, or the backend is not what it seems.
_MEDIA_PATHS: Final = ("/v1/audio/", "/pooling", "/v1/embeddings")


def is_answers(content_type: str) -> bool:
    """Return True if an answer may have this content type, with no odd parameters."""
    return is_document(content_type) or is_media(content_type)


def is_document(content_type: str) -> bool:
    """Return True for the content types of JSON and events."""
    return _DOCUMENT.fullmatch(content_type) is not None


def is_media(content_type: str) -> bool:
    """Return True for the content types of texts, sounds and bytes."""
    return _MEDIA.fullmatch(content_type) is not None


def may_be_media(path: str) -> bool:
    """Return True if a backend's ``path`` may answer with one of those."""
    return path.startswith(_MEDIA_PATHS)


def check_row(task: Task) -> None:
    """Raise ProviderFault unless a task's row is well formed."""
    for name in _NUMBERS:
        _check_count(getattr(task, name), "row")
    is_told = all(type(getattr(task, name)) is str for name in _TEXTS)
    if (task.query or task.request_headers) and not may_pass(task.query, task.request_headers):
        raise ProviderFault("row")
    is_packed = type(task.tail) is bytes and len(task.tail) <= TAIL_BYTES_MAX
    if not (is_told and is_packed and type(task.error) is dict and type(task.usage) is dict):
        raise ProviderFault("row")
    _check_headers(task.headers)


def check_chunk(chunk: Chunk) -> None:
    """Raise ProviderFault unless a chunk is well formed."""
    if type(chunk.data) is not bytes or len(chunk.data) > CHUNK_BYTES_MAX:
        raise ProviderFault("chunk")
    _check_count(chunk.ttl, "chunk")
    if chunk.head is not None:
        check_head(chunk.head, chunk.attempt)


def check_head(head: AnswerHead, attempt: int) -> None:
    """Raise ProviderFault unless an answer of that attempt may begin so."""
    _check_count(head.queue_ms, "head")
    if type(head.status) is not int or head.status not in _STATUSES:
        raise ProviderFault("head")
    for text, is_known in ((head.content_type, is_answers), (head.provider, NAME.fullmatch)):
        if type(text) is not str or (text and not is_known(text)):
            raise ProviderFault("head")
    earlier = [each for each, _ in head.after]
    for number in (each for segment in head.after for each in segment):
        _check_count(number, "head")
    if earlier != sorted(set(earlier)) or (earlier and earlier[-1] >= attempt):
        raise ProviderFault("head")


def check_task(task: Task, submitted: Task) -> None:
    """Raise ProviderFault unless a well-formed row can belong to the task that was submitted."""
    if any(getattr(task, name) != getattr(submitted, name) for name in _GIVEN):
        raise ProviderFault("row")
    if task.attempt > task.attempt_limit:
        raise ProviderFault("attempt")
    if task.owner and not NAME.fullmatch(task.owner):
        raise ProviderFault("row")


def _check_headers(headers: object) -> None:
    for name, value in headers.items() if type(headers) is dict else [("", "")]:
        form = _HEADERS.get(name)
        if form is None or type(value) is not str or not form.fullmatch(value):
            raise ProviderFault("row")


def _check_count(value: object, breach: str) -> None:
    if type(value) is not int or not 0 <= value < _NUMBER_MAX:
        raise ProviderFault(breach)
