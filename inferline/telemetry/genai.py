"""Names from OpenTelemetry's conventions for generative AI, for metrics and spans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from inferline.errors import InferLineError

#: `gen_ai.provider.name`: what answers, as a client of this API sees it.
PROVIDER: Final = "inferline"

#: `gen_ai.operation.name` of each path. From the fourth on they are not in the conventions, which
#: allow it.
_OPERATIONS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/messages/count_tokens": "tokenize",
    "/v1/rerank": "rerank",
    "/v1/score": "score",
    "/classify": "classify",
    "/pooling": "pooling",
    "/v1/chat/completions/input_tokens": "count_tokens",
    "/v1/responses/input_tokens": "count_tokens",
    "/tokenize": "tokenize",
    "/detokenize": "detokenize",
    "/tokenizer_info": "tokenizer_info",
    "/infill": "infill",
    "/apply-template": "apply_template",
    "/v1/audio/transcriptions": "transcription",
    "/v1/audio/translations": "translation",
    "/v1/audio/speech": "speech",
    "/v1/images/generations": "image_generation",
    "/v1/images/edits": "image_edit",
    "/v1/images/variations": "image_variation",
}
#: For whatever is not in a closed set: a label must not have as many values as somebody likes.
OTHER: Final = "_OTHER"

#: Buckets of durations, seconds; the conventions end at 81.92, and here an answer may take longer.
DURATIONS: Final = (*(0.01 * 2**n for n in range(14)), 163.84, 327.68, 655.36)
#: Buckets of the time to the first token,
FIRST_TOKEN: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
#: of the time per token,
PER_TOKEN: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
#: and of counts of tokens.
TOKENS: Final = tuple(4**n for n in range(14))

#: Models that get a label of their own; all others share one.
MODELS_MAX: Final = 1000

#: `gen_ai.token.type`.
TokenType = Literal["input", "output"]
#: The two counts under the names that the APIs have for them.
_USAGE: Final[Mapping[str, TokenType]] = {
    "prompt_tokens": "input",
    "input_tokens": "input",
    "completion_tokens": "output",
    "output_tokens": "output",
}
#: Details of the two counts, and where they stand in the APIs that have them.
_DETAILS: Final = (
    ("prompt_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cached_tokens"),
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
)
#: A larger or a negative token count from a backend is ignored.
TOKENS_MAX: Final = 2**31


def counts(usage: Any) -> dict[str, int]:
    """Return the valid token counts in an answer's ``usage``, by their own names."""
    valid = {}
    for name in (*_USAGE, "total_tokens") if isinstance(usage, Mapping) else ():
        count = usage.get(name)
        if type(count) is int and 0 <= count <= TOKENS_MAX:
            valid[name] = count
    return valid


def detail_counts(usage: Any) -> dict[str, int]:
    """
    Return the valid counts in the details of an answer's ``usage``.

    ``cached_tokens`` are prompt tokens that the backend had computed before, ``reasoning_tokens``
    output tokens of a reasoning.
    """
    valid = {}
    for details, name in _DETAILS if isinstance(usage, Mapping) else ():
        detail = usage.get(details)
        count = detail.get(name) if isinstance(detail, Mapping) else None
        if type(count) is int and 0 <= count <= TOKENS_MAX:
            valid[name] = count
    return valid


def tokens(usage: Any) -> dict[TokenType, int]:
    """
    Return the token counts in the ``usage`` of an answer of any API. A row's is checked again: any
    provider may write it.
    """
    return {_USAGE[name]: count for name, count in counts(usage).items() if name in _USAGE}


def operation(path: str) -> str:
    """Return `gen_ai.operation.name` of a request to a backend's ``path``."""
    return _OPERATIONS.get(path, OTHER)


def _codes(error: type[InferLineError] = InferLineError) -> Iterator[str]:
    yield error.code
    for kind in error.__subclasses__():
        yield from _codes(kind)


_CODES: Final = frozenset(
    {*_codes(), "damaged_request", *(f"backend_{status}" for status in range(400, 600))}
)


def error_type(code: str) -> str:
    """Return `error.type` for an error's code: a provider may have written anything."""
    return code if not code or code in _CODES else OTHER


class Models:
    """Labels of models, of which only a limited number are distinguished."""

    def __init__(self, count_max: int = MODELS_MAX) -> None:
        self._max = count_max
        self._known: set[str] = set()

    def label(self, model: str) -> str:
        """Return the label of a model."""
        if model not in self._known:
            if len(self._known) >= self._max:
                return OTHER
            self._known.add(model)
        return model
