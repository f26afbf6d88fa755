"""An estimate of the tokens that a request may use, before any model has read it."""

from __future__ import annotations

import re
from math import ceil
from typing import Final

from inferline.settings import Settings
from inferline.telemetry import genai
from inferline.validation.payload import Payload

#: Bytes of a body's JSON; English text has about as many per token, other languages fewer.
BYTES_PER_TOKEN: Final = 4
#: Tokens of an image, a sound or a file of any size; models differ widely.
MEDIA_TOKENS: Final = 1000
#: The operations whose answers have a length limit, by `genai.operation`.
_WRITES: Final = frozenset({"chat", "text_completion", "infill"})
#: A string without a space that is longer than any word: base64, with or without its `data:`.
_MEDIA_CHARS_MIN: Final = 2000
_MEDIA: Final = re.compile(
    rb'"(?:data:[^",]{0,200},)?[A-Za-z0-9+/_=\\-]{' + str(_MEDIA_CHARS_MIN).encode() + rb',}"'
)


def tokens_of(path: str, payload: Payload, body: bytes, settings: Settings) -> int:
    """Return the tokens of the prompt, by its bytes, and the most that its answers may have."""
    if payload.text_bytes is not None:
        text, media = payload.text_bytes, payload.files
    else:
        encoded = _MEDIA.findall(body) if len(body) > _MEDIA_CHARS_MIN else []
        text, media = len(body) - sum(map(len, encoded)), len(encoded)
    prompt = ceil(text / BYTES_PER_TOKEN) + media * MEDIA_TOKENS
    if genai.operation(path) not in _WRITES:
        return prompt
    most = payload.output_tokens_max
    return prompt + payload.choices * (settings.output_tokens_assumed if most is None else most)
