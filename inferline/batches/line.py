"""The check of one line of a batch's input: any bytes give a prefix or a RequestError."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any, Final

from pydantic_core import from_json

from inferline.errors import InvalidRequest, RequestError
from inferline.validation import payload
from inferline.validation.guard import Guard
from inferline.validation.json_scan import JsonScan

CUSTOM_ID_CHARS_MAX: Final = 512
#: Every endpoint has its address below each of these, as at the gateway.
PREFIXES: Final = ("/v1", "", "/api", "/api/v1")
_PREFIX_BYTES: Final = 8
_SYSTEM_ROLES: Final = ("system", "developer")


class LineChecker:
    """The rules for the lines of one batch, and what its earlier lines were."""

    def __init__(self, endpoint: str, guard: Guard) -> None:
        path = endpoint.removeprefix("/v1")
        self._endpoint = endpoint
        self._urls = frozenset(f"{prefix}{path}" for prefix in PREFIXES)
        self._guard = guard
        #: Hashes, 64 bits: two of 50,000 ids have the same with a chance of 1 in 10 thousand
        #: million.
        self._custom_ids: set[int] = set()
        #: The model of the first line that names one.
        self.model = ""

    def prefix_of(self, line: bytes) -> int:
        """
        Check the next line; return a hash of the text that its prompt begins with, 0 for none.

        Raises RequestError. Its message repeats nothing of the line but the names of fields.
        """
        document = _parse(line)
        outline = JsonScan.of_document(document, self._guard.depth_max + 1)
        payload.check_repeated(line, outline)
        self._check_custom_id(document.get("custom_id"))
        self._check_address(document)
        body = document.get("body")
        if not isinstance(body, dict):
            raise _missing("body", "Put the request's fields into `body`, a JSON object.")
        try:
            return self._prefix_of_body(body)
        except RequestError as error:
            error.param = f"body.{error.param}" if error.param else "body"
            raise

    def _prefix_of_body(self, body: dict[str, Any]) -> int:
        outline = JsonScan.of_document(body, self._guard.depth_max)
        fields = payload.of_document(body, outline, self._guard, path=self._endpoint)
        if fields.stream:
            message = "A batch sends no streams: leave `stream` out, or set it to false."
            raise InvalidRequest(message, param="stream")
        self.model = self.model or fields.model
        if fields.model != self.model:
            raise InvalidRequest(
                "All lines of a batch name the same model; this one names another than the first.",
                param="model",
                code="mismatched_model",
            )
        return _hash_of_prefix(body)

    def _check_custom_id(self, custom_id: object) -> None:
        if custom_id is None:
            raise _missing("custom_id", "Give each line a `custom_id`.")
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= CUSTOM_ID_CHARS_MAX:
            raise InvalidRequest(
                f"`custom_id` must be a string of 1 to {CUSTOM_ID_CHARS_MAX} characters.",
                param="custom_id",
            )
        known = len(self._custom_ids)
        self._custom_ids.add(hash(custom_id))
        if len(self._custom_ids) == known:
            raise InvalidRequest(
                "An earlier line has the same `custom_id`. Give each line its own.",
                param="custom_id",
                code="duplicate_custom_id",
            )

    def _check_address(self, document: dict[str, Any]) -> None:
        method, url = document.get("method"), document.get("url")
        if method is None:
            raise _missing("method", '`method` must be "POST".')
        if not isinstance(method, str) or method.upper() != "POST":
            raise InvalidRequest('`method` must be "POST".', param="method")
        if url is None:
            raise _missing("url", f'`url` must be "{self._endpoint}", as the batch\'s endpoint.')
        if not isinstance(url, str) or url not in self._urls:
            raise InvalidRequest(
                f'`url` must be "{self._endpoint}", as the batch\'s endpoint.',
                param="url",
                code="mismatched_endpoint",
            )


def _parse(line: bytes) -> dict[str, Any]:
    try:
        document = from_json(line, allow_inf_nan=False)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise InvalidRequest(
            "This line is not parseable as valid JSON: write one object into each line.",
            code="invalid_json_line",
        )
    return document


def _missing(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="missing_required_parameter")


def _hash_of_prefix(body: dict[str, Any]) -> int:
    """Hash the first system message. All processes get the same, so that a restart cuts alike."""
    messages, text = body.get("messages"), body.get("instructions")
    first = messages[0] if isinstance(messages, list) and messages else None
    if isinstance(first, dict) and first.get("role") in _SYSTEM_ROLES:
        text = first.get("content")
    if not text:
        return 0
    data = text if isinstance(text, str) else json.dumps(text)
    return int.from_bytes(blake2b(data.encode(), digest_size=_PREFIX_BYTES).digest())
