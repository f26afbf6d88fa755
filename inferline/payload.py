"""A client's JSON, read with suspicion: any bytes give a Payload or an InvalidRequest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isinf
from typing import Any, Final

from pydantic_core import from_json

from inferline.errors import InvalidRequest
from inferline.task import Tier

#: Deepest nesting of objects and arrays, the body itself counted. The parser stops at 200.
DEPTH_MAX: Final = 64
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

#: The fields that decide where a task goes. Written twice, they could mean one thing to InferLine
#: and another to the backend.
_ROUTED: Final = ("model", "stream", "service_tier")

_OTHER_ENCODINGS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What InferLine reads of a request. The bytes go to the backend as they came."""

    model: str
    stream: bool = False
    #: As the client wrote it; None when it did not.
    service_tier: str | None = None
    #: How many answers one stream carries: `n`, times the prompts of a completion.
    choices: int = 1
    #: Whether the client itself asked for the usage of a stream.
    include_usage: bool = False

    @property
    def tier(self) -> Tier:
        """The queue that the service tier means."""
        return SERVICE_TIERS[self.service_tier or "auto"]


def read(body: bytes, *, depth_max: int = DEPTH_MAX) -> Payload:
    """
    Read what a request is routed on. Raises InvalidRequest and nothing else, whatever the bytes.

    The message says what to mend and quotes nothing of the body but the names of fields.
    """
    document = _parse(body)
    _check_values(document, depth_max)
    _check_repeated(body)
    return Payload(
        model=_model(document),
        stream=_stream(document),
        service_tier=_service_tier(document),
        choices=choices_of(document),
        include_usage=include_usage(document),
    )


def _parse(body: bytes) -> dict[str, Any]:
    if body.startswith(_OTHER_ENCODINGS):
        raise InvalidRequest("Send the body as UTF-8 without a byte order mark.")
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as refused:
        raise InvalidRequest(f"The body is not valid JSON: {refused}.") from None
    if not isinstance(document, dict):
        raise InvalidRequest("Send a JSON object as the body.")
    return document


def _check_values(document: dict[str, Any], depth_max: int) -> None:
    """Refuse what the parser lets pass: deep nesting, and numbers too large for a float."""
    level: list[Any] = [document]
    depth = 0
    while level:
        depth += 1
        if depth > depth_max:
            raise InvalidRequest(f"Nest the body's objects and arrays at most {depth_max} deep.")
        below = []
        for node in level:
            for value in node.values() if type(node) is dict else node:
                kind = type(value)
                if kind is dict or kind is list:
                    below.append(value)
                elif kind is float and isinf(value):
                    raise InvalidRequest("The body holds a number beyond the range of a double.")
        level = below


def _check_repeated(body: bytes) -> None:
    suspects = [name for name in _ROUTED if body.count(f'"{name}"'.encode()) > 1]
    if not suspects:
        return
    # Most often the name is a key deeper down. The outermost object is the last to be built.
    outermost: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        outermost[:] = [name for name, _ in pairs]

    json.loads(body, object_pairs_hook=note)
    for name in suspects:
        if outermost.count(name) > 1:
            raise InvalidRequest(f"Send `{name}` once.", param=name)


def _model(document: dict[str, Any]) -> str:
    model = document.get("model")
    if model is None:
        raise InvalidRequest("Name the model in the field `model`.", param="model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("`model` must be a string that is not empty.", param="model")
    if len(model) > MODEL_CHARS_MAX:
        message = f"`model` must have at most {MODEL_CHARS_MAX} characters."
        raise InvalidRequest(message, param="model")
    return model


def _stream(document: dict[str, Any]) -> bool:
    stream = document.get("stream")
    if stream is None:
        return False
    if not isinstance(stream, bool):
        raise InvalidRequest("`stream` must be true, false or null.", param="stream")
    return stream


def _service_tier(document: dict[str, Any]) -> str | None:
    tier = document.get("service_tier")
    if tier is None:
        return None
    if not isinstance(tier, str) or tier not in SERVICE_TIERS:
        known = ", ".join(SERVICE_TIERS)
        raise InvalidRequest(f"`service_tier` must be one of {known}.", param="service_tier")
    return tier


def choices_of(document: Mapping[str, Any]) -> int:
    """
    How many answers a request asks for in one stream: `n`, times the prompts of a completion.

    What is no number is left to the backend to refuse; a list of integers is one prompt, in tokens.
    """
    n = document.get("n")
    choices = n if type(n) is int and n > 0 else 1
    prompts = document.get("prompt")
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
        choices *= len(prompts)
    return choices


def include_usage(document: Mapping[str, Any]) -> bool:
    """Whether a request asks for the usage of its stream."""
    options = document.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True
