"""Errors that an LLM server reports: read in any form, written in the form its clients read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from inferline.streams.sse import data_event

#: The API of an endpoint: it decides how streams end and report errors.
ErrorFormat = Literal["choices", "responses", "messages", "other"]

#: By the last part of the path, so that any prefix of the address gives the same result.
_KINDS: Final[Mapping[str, ErrorFormat]] = {
    "completions": "choices",
    "responses": "responses",
    "messages": "messages",
}

#: Fields with the message of an error that is not in OpenAI's form, the best first.
_WORDS: Final = ("message", "msg", "detail", "error", "errors", "error_message", "reason", "text")
#: Fields that mean an error by themselves, fields that do so beside a code, and other fields that
#: an error may have.
_ALONE: Final = frozenset({"detail", "errors", "error_message"})
_CODED: Final = frozenset({"message", "msg"})
_CODES: Final = frozenset(
    {"code", "error_code", "status", "status_code", "http_status", "type", "error_type"}
)
_BESIDE: Final = (
    _ALONE
    | _CODED
    | _CODES
    | {
        *("object", "param", "success", "id", "request_id", "timestamp", "path", "text"),
        "sequence_number",
    }
)
#: Fields in which an error may have its HTTP status.
_STATUSES: Final = ("status_code", "status", "http_status", "http_code", "code", "error_code")
#: Values of a code that mean success.
_WELL: Final = (0, 200, "0", "200", "ok", "success")
#: The status of an error by a part of its type or code. The first match counts.
_MEANINGS: Final[tuple[tuple[str, int], ...]] = (
    *(("quota", 429), ("rate_limit", 429), ("ratelimit", 429), ("too_many", 429)),
    *(("overloaded", 503), ("unavailable", 503), ("timeout", 504)),
    *(("authentication", 401), ("unauthorized", 401), ("api_key", 401)),
    *(("permission", 403), ("forbidden", 403), ("billing", 402)),
    *(("not_found", 404), ("notfound", 404), ("too_large", 413), ("not_supported", 501)),
    *(("unprocessable", 422), ("validation", 422), ("context", 400), ("invalid", 400)),
    *(("badrequest", 400), ("bad_request", 400), ("content_filter", 400)),
)
#: OpenAI's types of errors, by status.
_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
#: The Messages API's types of errors, by status.
_ANTHROPICS: Final = _TYPES | {
    400: "invalid_request_error",
    402: "billing_error",
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
#: The status of an error that has none.
STATUS: Final = 500
#: Longest text made of a list of messages.
_WORDS_CHARS_MAX: Final = 2000

#: Fields of an error in OpenAI's form.
_FIELDS: Final = frozenset({"message", "type", "param", "code"})


def kind_of(path: str) -> ErrorFormat:
    """Return the format of errors on the endpoint ``path``."""
    return _KINDS.get(path.rstrip("/").rpartition("/")[2], "other")


def anthropic_type(status: int) -> str:
    """Return the Messages API's type of an error with a status."""
    return _ANTHROPICS.get(status, "invalid_request_error" if status < 500 else "api_error")


def error_of(document: Any) -> dict[str, Any] | None:
    """Return the error in a document or an event's data; None if it has none."""
    if isinstance(document, list) and len(document) == 1 and is_nested(document[0]):
        return error_of(document[0])
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if error is True or (not error and _is_flat(document)):
        error = {
            name: value
            for name, value in document.items()
            if name not in ("error", "object") and (name, value) != ("type", "error")
        }
    if not error:
        return None
    if isinstance(error, dict):
        return error
    beside = {name: value for name, value in document.items() if name in _BESIDE}
    return {"message": _words(error)} | beside


def status_of(error: Mapping[str, Any]) -> int:
    """Return the HTTP status of an error; STATUS if it has none."""
    for name in _STATUSES:
        value = error.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) == 3:
            value = int(value)
        if type(value) is int and 400 <= value <= 599:
            return value
    names = [str(error.get(name) or "").lower() for name in ("code", "type", "error_type")]
    for name in names:
        for part, status in _MEANINGS:
            if part in name:
                return status
    return 422 if isinstance(error.get("detail"), list) else STATUS


def in_shape(error: Mapping[str, Any], status: int | None = None) -> dict[str, Any]:
    """Return an error with all of OpenAI's fields; its other fields stay."""
    status = status or status_of(error)
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    same = {name: value for name, value in error.items() if value is not None}
    if not isinstance(same.get("type", ""), str):
        del same["type"]
    words = next((said for name in _WORDS if (said := _words(error.get(name)))), "")
    message = words or "The LLM server reported an error and did not say which."
    return {"message": "", "type": kind, "param": None, "code": None} | same | {"message": message}


def error_body(error: Mapping[str, Any]) -> bytes:
    """Return an error as the body of an answer."""
    return _json({"error": in_shape(error)})


def is_nested(document: Any) -> bool:
    """Return True if a document has an error with a message where OpenAI's clients read it."""
    error = document.get("error") if isinstance(document, dict) else None
    return isinstance(error, dict) and isinstance(error.get("message"), str)


def is_in_shape(kind: ErrorFormat, document: Mapping[str, Any], name: bytes | None) -> bool:
    """Return True if an event reports its error as clients of this kind of stream read it."""
    if kind == "choices":
        return name is None and is_nested(document) and document["error"].keys() >= _FIELDS
    if kind == "other":
        return is_nested(document)
    is_flat = kind == "responses" and isinstance(document.get("message"), str)
    is_named = kind == "responses" or name == b"error"
    return is_named and document.get("type") == "error" and (is_flat or is_nested(document))


def error_event(kind: ErrorFormat, error: Mapping[str, Any], status: int | None = None) -> bytes:
    """
    Return an error as the last event of a stream; ``status`` is what its answer had, if any.

    The event has no name, because OpenAI's SDKs ignore named events; the Messages API's SDKs ignore
    events without a name. On a Responses stream the AI SDK takes an event without a `type` for a
    broken event, and OpenAI's SDKs read the field `error`; the event also has the fields of
    OpenAI's own form.
    """
    status = status or status_of(error)
    error = in_shape(error, status)
    if kind == "messages":
        error["type"] = _anthropics(error, status)
        return b"event: error\n" + data_event(_json({"type": "error", "error": error}))
    if kind == "responses":
        flat = {name: error[name] for name in ("code", "message", "param")}
        return data_event(_json({"type": "error", "sequence_number": 0, **flat, "error": error}))
    return data_event(_json({"error": error}))


def _is_flat(document: Mapping[str, Any]) -> bool:
    """Return True if a document is an error by itself, not in a field `error`."""
    if document.get("type") == "error" or document.get("object") == "error":
        return True
    names = {name for name, value in document.items() if value is not None}
    said = [document[name] for name in names & (_ALONE | _CODED)]
    if not names <= _BESIDE or not all(isinstance(text, str | list) and text for text in said):
        return False
    if any(document[name] in _WELL for name in names & _CODES):
        return False
    is_coded = bool(names & _CODED and names & _CODES)
    return is_coded or bool(names & _ALONE) or "error_code" in names


def _words(value: Any) -> str:
    """Return the message of an error as a single text."""
    if isinstance(value, dict):
        said = next((words for name in _WORDS if (words := _words(value.get(name)))), "")
        where = value.get("loc")
        place = ".".join(map(str, where)) if isinstance(where, list) else ""
        return f"{place}: {said}" if place and said else said
    if isinstance(value, list):
        return "; ".join(filter(None, map(_words, value)))[:_WORDS_CHARS_MAX]
    return value if isinstance(value, str) else ""


def _anthropics(error: Mapping[str, Any], status: int) -> str:
    """Return the Messages API's type of an error."""
    is_known = error["type"] in _ANTHROPICS.values()
    return str(error["type"]) if is_known else anthropic_type(status)


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
