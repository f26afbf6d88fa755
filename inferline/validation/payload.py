"""The check of a client's JSON: any bytes give a Payload or a RequestError."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json

from inferline.errors import FieldNotAllowed, InvalidRequest
from inferline.tasks.task import Tier
from inferline.validation.guard import STANDARD, Guard
from inferline.validation.json_scan import JsonScan

#: Longest model name, in characters. Hugging Face's own limit is 96 for each of its two parts.
MODEL_CHARS_MAX: Final = 256

#: What clients may write as `service_tier`, and the queue that it means. The names are those of
#: OpenAI and Anthropic.
SERVICE_TIERS: Final[Mapping[str, Tier]] = {
    "auto": "default",
    "default": "default",
    "flex": "flex",
    "priority": "priority",
    "scale": "default",
    "standard_only": "default",
}

#: What the APIs and LLM servers call the longest that an answer may be.
_LENGTHS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")

#: Characters of a field's name in an error.
_NAME_CHARS_MAX: Final = 64
#: The colon of a field: behind a quotation mark that is not escaped, or behind white space. A few
#: colons of texts look the same.
_COLON: Final = re.compile(rb':(?<=[^\\]":|.[ \t\n\r]:)', re.DOTALL)

#: Fields of the Responses API that need a server that keeps answers; each request may get another.
_KEPT_ANSWERS: Final[Mapping[str, str]] = {
    "background": "Answers are not made in the background here. Leave it out, and read a stream.",
    "conversation": "Conversations are not kept here. Send their items in `input`.",
    "previous_response_id": "Responses are not kept here. Send what went before in `input`.",
}

_OTHER_ENCODINGS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The fields that InferLine reads of a request. The bytes go to the backend unchanged."""

    model: str
    stream: bool = False
    #: As the client wrote it; None when it did not.
    service_tier: str | None = None
    #: How many answers one stream carries: `n`, times the prompts of a completion.
    choices: int = 1
    #: How long one of them may be, tokens; None when the client did not say.
    output_tokens_max: int | None = None
    #: True if the client itself asked for the usage of a stream.
    include_usage: bool = False
    #: The length of a form's texts, bytes, and its number of files. None: it is not a form.
    text_bytes: int | None = None
    files: int = 0

    @property
    def tier(self) -> Tier:
        """Return the queue of the service tier."""
        return SERVICE_TIERS[self.service_tier or "auto"]


def read(
    body: bytes, guard: Guard = STANDARD, *, path: str = "", needs_model: bool = True
) -> Payload:
    """
    Read what a request to the backend's ``path`` is routed by, if ``guard`` lets it pass.

    Raises only RequestError, whatever the bytes. The message says what to correct and repeats
    nothing of the body but the names of fields. Unless it ``needs_model``, a missing model is "".
    """
    document = _parse(body)
    outline = JsonScan.of_document(document, guard.depth_max)
    check_repeated(body, outline)
    return of_document(document, outline, guard, path=path, needs_model=needs_model)


def of_document(
    document: Mapping[str, Any],
    outline: JsonScan,
    guard: Guard = STANDARD,
    *,
    path: str = "",
    needs_model: bool = True,
) -> Payload:
    """Read a body that is parsed and scanned already, as `read` does."""
    guard.check(document, outline)
    if path.startswith("/v1/responses"):
        _check_kept(document)
    return Payload(
        model=model_of(document) if needs_model or document.get("model") is not None else "",
        stream=_stream(document),
        service_tier=service_tier_of(document),
        choices=choices_of(document),
        output_tokens_max=_output_tokens_max(document),
        include_usage=include_usage(document),
    )


def _parse(body: bytes) -> dict[str, Any]:
    if body.startswith(_OTHER_ENCODINGS):
        raise InvalidRequest("Send the body as UTF-8 without a byte order mark.")
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as refused:
        raise InvalidRequest(f"The body is not valid JSON: {_plainly(str(refused))}.") from None
    if not isinstance(document, dict):
        raise InvalidRequest("Send a JSON object as the body.")
    return document


def _plainly(refused: str) -> str:
    """Rephrase the parser's message, which speaks of bytes, for a client."""
    message, separator, where = refused.rpartition(" at line ")
    if "hex escape" in message:
        message = (
            "a text holds half of a character, an escape from \\ud800 to \\udfff without the one "
            "that belongs to it (an emoji that was cut in two?)"
        )
    elif "unicode code point" in message:
        message = "a text holds bytes that are not UTF-8"
    return message + separator + where


def _check_kept(document: Mapping[str, Any]) -> None:
    """Raise FieldNotAllowed for fields that a backend would ignore, or begin and lose."""
    for name, instead in _KEPT_ANSWERS.items():
        value = document.get(name)
        if value is not None and value is not False:
            raise FieldNotAllowed(instead, param=name)


def check_repeated(body: bytes, outline: JsonScan) -> None:
    """
    Refuse a field that an object has twice: InferLine and the backend could read different values.

    If there are no more colons of fields than different fields, no field is repeated; so a body is
    rarely read a second time.
    """
    names = "".join(outline.names) + "".join(outline.schema_names)
    if "\\" in names or len(_COLON.findall(body)) != outline.fields:
        json.loads(body, object_pairs_hook=check_pairs)


def check_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these fields. Raises InvalidRequest if one is repeated."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            param = name[:_NAME_CHARS_MAX]
            raise InvalidRequest(f"Send `{param}` once.", param=param)
        seen.add(name)
    return dict(pairs)


def model_of(document: Mapping[str, Any]) -> str:
    """Return the model that a request names. Raises InvalidRequest."""
    model = document.get("model")
    if model is None:
        raise InvalidRequest("Name the model in the field `model`.", param="model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("`model` must be a string that is not empty.", param="model")
    if len(model) > MODEL_CHARS_MAX:
        message = f"`model` must have at most {MODEL_CHARS_MAX} characters."
        raise InvalidRequest(message, param="model")
    return model


def _stream(document: Mapping[str, Any]) -> bool:
    stream = document.get("stream")
    if stream is None:
        return document.get("stream_format") == "sse"  # Of speech.
    if not isinstance(stream, bool):
        raise InvalidRequest("`stream` must be true, false or null.", param="stream")
    return stream


def service_tier_of(document: Mapping[str, Any]) -> str | None:
    """Return the tier that a request names, None for none. Raises InvalidRequest."""
    tier = document.get("service_tier")
    if tier is None:
        return None
    if not isinstance(tier, str) or tier not in SERVICE_TIERS:
        known = ", ".join(SERVICE_TIERS)
        raise InvalidRequest(f"`service_tier` must be one of {known}.", param="service_tier")
    return tier


def choices_of(document: Mapping[str, Any]) -> int:
    """
    Return how many answers one stream carries: `n`, times the prompts of a completion.

    An invalid number is left to the backend to refuse; a list of integers is one prompt, in tokens.
    """
    n = document.get("n")
    choices = n if type(n) is int and n > 0 else 1
    prompts = document.get("prompt")
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
        choices *= len(prompts)
    return choices


def _output_tokens_max(document: Mapping[str, Any]) -> int | None:
    """Return the largest length limit: each backend reads another of the names."""
    limits = (document.get(name) for name in _LENGTHS)
    return max((value for value in limits if type(value) is int and value >= 0), default=None)


def include_usage(document: Mapping[str, Any]) -> bool:
    """Return True if a request asks for the usage of its stream."""
    options = document.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True
