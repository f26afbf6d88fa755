"""Classification of what a backend answered: an answer for the client, or a fault."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from inferline.errors import (
    RETRY_AFTER_SECONDS_MAX,
    BackendRefused,
    InferLineError,
)
from inferline.streams.reported_error import error_body, error_of, in_shape, is_nested, status_of
from inferline.tasks.store import AttemptOutcome
from inferline.telemetry import genai
from inferline_provider.faults import (
    SHOULD_RETRY,
    BackendAnswer,
    BadAnswer,
    Busy,
    KeyRefused,
)

#: Statuses that say "wait", not "no"; Anthropic's servers say 529.
_BUSY: Final = frozenset({429, 503, 529})
#: Statuses about the provider's own key, never about the client's request.
_KEY: Final = frozenset({401, 403})
_FORBIDDEN: Final = 403
#: Statuses other than 4xx that are about the request as well.
_REFUSED: Final = frozenset({501})
#: A 4xx that another attempt may mend.
_TIMED_OUT: Final = 408

RETRY_AFTER: Final = "retry-after"
#: The same in milliseconds, which OpenAI's SDKs prefer.
_RETRY_AFTER_MS: Final = "retry-after-ms"

#: The fields that hold the result, in the answers of all endpoints.
_RESULTS: Final = frozenset(
    {"choices", "data", "output", "content", "results", "tokens", "count", "score"}
)

#: Parts of the `code` or `type` of a 429's error that no waiting mends: each vendor has another
#: name for an account without money.
_SPENT: Final = re.compile("insufficient|billing|balance|credit|arrear|current_quota")
#: An error's code that may be passed on where its message may not.
_CODE: Final = re.compile(r"[a-z][a-z_]{0,63}")


#: Larger answers are judged by their first and last byte: parsing them would hold up the others.
PARSED_BYTES_MAX: Final = 256 * 1024

#: How a proxy's page begins, which is no answer.
_PAGES: Final = (b"<!doctype html", b"<html")
_PAGE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Finish:
    """End the task with this outcome, after `rest` of the answer has been written."""

    outcome: AttemptOutcome
    rest: bytes = b""


def classify_response(answer: BackendAnswer, headers: Mapping[str, str] = {}) -> BackendAnswer:
    """
    Return the answer for the client. Raises Fault when there is none.

    `headers` are the response's. A 200 around nothing but an error is an error: some SDKs would
    take it for an empty answer.
    """
    status = answer.status
    if 200 <= status < 300:
        document = parse(answer.body)
        if document is None:
            raise BadAnswer(f"The backend answered {status} without JSON.")
        error = _only_error(document)
        if error is None:
            return answer
        status = status_of(error)
        answer = answer if is_nested(document) else _in_shape(answer, error)
    answer = replace(answer, status=status, headers=_kept(headers))
    if status in _BUSY:
        raise _busy(answer)
    if status in _KEY:
        reason = f"The backend answered {status}: it refuses this provider's key."
        # A 401 would have the client look for its own key.
        raise KeyRefused(reason, _not_shown(answer) if status == _FORBIDDEN else None)
    if (400 <= status < 500 and status != _TIMED_OUT) or status in _REFUSED:
        return answer if parse(answer.body) is not None else _in_json(answer)
    readable = _readable(answer) if 400 <= status < 600 else None
    raise BadAnswer(f"The backend answered {status}.", readable)


def classify_media(answer: BackendAnswer) -> BackendAnswer:
    """Return a success that is a text, a sound or bytes. Raises BadAnswer for a proxy's page."""
    if answer.body[:_PAGE_BYTES].lstrip().lower().startswith(_PAGES):
        raise BadAnswer(f"The backend answered {answer.status} with a page.")
    return answer


def failure(error: InferLineError) -> AttemptOutcome:
    """Return the outcome of a task that failed with `error`."""
    return AttemptOutcome(error=error.as_dict())


def parse(body: bytes) -> Any:
    """Return the value of a JSON body, None for no JSON; a large one is not parsed: see above."""
    text = body.strip()
    if len(text) > PARSED_BYTES_MAX:
        closed = {b"{": b"}", b"[": b"]"}.get(text[:1])
        return {} if closed == text[-1:] else None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def usage_of(document: Any) -> dict[str, int]:
    """Return the token counts in an answer, or in an event."""
    if not isinstance(document, dict):
        return {}
    inner = document.get("response") or document.get("message")
    usage = document.get("usage") or (inner.get("usage") if isinstance(inner, dict) else None)
    return genai.counts(usage)


def _only_error(document: Any) -> dict[str, Any] | None:
    """Return the error in a document that has no result besides."""
    if not isinstance(document, dict):
        return error_of(document)
    results = {name for name in _RESULTS & document.keys() if document[name] or name != "choices"}
    return None if results and document.get("object") != "error" else error_of(document)


def _in_json(answer: BackendAnswer, why: str = "") -> BackendAnswer:
    """Return a refusal that is no JSON, such as a proxy's page, as an error clients can read."""
    words = f"The LLM server refused the request with status {answer.status}. {why}".strip()
    error = in_shape({"message": words, "code": BackendRefused.code}, answer.status)
    return _in_shape(answer, error)


def _readable(answer: BackendAnswer) -> BackendAnswer | None:
    """Return a failure as OpenAI's clients read it; None when it is no error in JSON."""
    document = parse(answer.body)
    error = error_of(document)
    if error is None or is_nested(document):
        return None if error is None else answer
    return _in_shape(answer, error)


def _in_shape(answer: BackendAnswer, error: Mapping[str, Any]) -> BackendAnswer:
    return replace(answer, content_type="application/json", body=error_body(error))


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a failure that its client gets, as SDKs read them."""
    kept = {}
    if (seconds := _seconds(headers)) is not None:
        kept[RETRY_AFTER] = str(seconds)
    if (retries := headers.get(SHOULD_RETRY, "").strip().lower()) in ("true", "false"):
        kept[SHOULD_RETRY] = retries
    return kept


def _busy(answer: BackendAnswer) -> Busy:
    """Return the fault of a busy backend: when there may be room, or that waiting won't help."""
    seconds = int(answer.headers[RETRY_AFTER]) if RETRY_AFTER in answer.headers else None
    readable = _readable(answer) or _in_json(answer, "It is busy.")
    is_final = answer.headers.get(SHOULD_RETRY) == "false" or any(
        map(_SPENT.search, _codes(answer))
    )
    return Busy(seconds, readable, is_final=is_final)


def _codes(answer: BackendAnswer) -> set[str]:
    """Return the `code` and `type` of an error."""
    error = error_of(parse(answer.body)) or {}
    values = [error.get(name) for name in ("code", "type")]
    return {value for value in values if isinstance(value, str)}


def _not_shown(answer: BackendAnswer) -> BackendAnswer:
    """Return a refusal without its message, which may hold a secret; only the code stays."""
    codes = sorted(code for code in _codes(answer) if _CODE.fullmatch(code))
    why = f" ({codes[0]})" if codes else ""
    error = BackendRefused(
        f"The LLM server refused the request with status {answer.status}{why}.",
        code=codes[0] if codes else None,
    )
    return BackendAnswer(answer.status, "application/json", json.dumps(error.body()).encode())


def _seconds(headers: Mapping[str, str]) -> int | None:
    """Return the whole seconds to wait, by the headers; None if they do not say."""
    text = headers.get(RETRY_AFTER, "").strip()
    milliseconds = headers.get(_RETRY_AFTER_MS, "").strip()
    try:
        if milliseconds[:1].isdecimal():
            seconds = float(milliseconds) / 1000
        elif text[:1].isdecimal():
            seconds = float(text)
        else:
            seconds = (_date(text) - _date(headers.get("date", ""))).total_seconds()
        return max(1, min(RETRY_AFTER_SECONDS_MAX, math.ceil(seconds)))
    except (ValueError, OverflowError):
        return None


def _date(text: str) -> datetime:
    """Return a header's date, which is UTC without a zone. Raises ValueError for no date."""
    date = parsedate_to_datetime(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)
