"""The making of a batch from what a client asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from inferline.accounts.caller import Caller
from inferline.batches.batch import ENDPOINTS, Batch
from inferline.batches.parts import BatchParts
from inferline.errors import InvalidRequest
from inferline.files.ids import is_id, new_id

#: OpenAI has "24h" alone; the others are an extension.
WINDOW: Final = "^([1-9]|[1-9][0-9]|1[0-5][0-9]|16[0-8])h$|^[1-7]d$"
_HOURS: Final = {"h": 1, "d": 24}
#: Of `metadata`, as OpenAI has them.
PAIRS_MAX: Final = 16
KEY_CHARS_MAX: Final = 64
VALUE_CHARS_MAX: Final = 512
#: The same in JSON schema.
METADATA: Final[dict[str, Any]] = {
    "maxProperties": PAIRS_MAX,
    "propertyNames": {"minLength": 1, "maxLength": KEY_CHARS_MAX},
    "additionalProperties": {"type": "string", "maxLength": VALUE_CHARS_MAX},
}
#: The purpose of a file that may be a batch's input.
INPUT_PURPOSE: Final = "batch"


async def create(
    parts: BatchParts,
    caller: Caller,
    *,
    input_file_id: str,
    endpoint: str,
    completion_window: str,
    metadata: Mapping[str, str] | None = None,
    output_seconds_kept: int,
) -> Batch:
    """Write a new batch, whose input nobody has read yet. Raises InvalidRequest or Unavailable."""
    if endpoint not in ENDPOINTS:
        raise InvalidRequest(f"`endpoint` must be one of {', '.join(ENDPOINTS)}.", param="endpoint")
    window_ms = _window_ms(completion_window)
    _check_metadata(metadata or {})
    await _check_input(parts, caller, input_file_id)
    now_ms = parts.batches.now_ms()
    batch = Batch(
        id=new_id("batch_", now_ms),
        tenant=caller.tenant,
        key_id=caller.key_id,
        endpoint=endpoint,
        input_file_id=input_file_id,
        completion_window=completion_window,
        metadata=metadata,
        output_seconds_kept=output_seconds_kept,
        created_ms=now_ms,
        expires_ms=now_ms + window_ms,
    )
    await parts.batches.create_batch(batch)
    return batch


def _window_ms(text: str) -> int:
    if not re.search(WINDOW, text) or text.endswith("\n"):
        raise InvalidRequest(
            '`completion_window` must be "24h", or another number of hours or days from "1h" to '
            '"7d".',
            param="completion_window",
        )
    return int(text[:-1]) * _HOURS[text[-1]] * 3_600_000


def _check_metadata(metadata: Mapping[str, str]) -> None:
    is_valid = len(metadata) <= PAIRS_MAX and all(
        0 < len(key) <= KEY_CHARS_MAX and len(value) <= VALUE_CHARS_MAX and _is_unicode(key + value)
        for key, value in metadata.items()
    )
    if not is_valid:
        raise InvalidRequest(
            f"`metadata` may have {PAIRS_MAX} pairs, with keys of 1 to {KEY_CHARS_MAX} and values "
            f"of up to {VALUE_CHARS_MAX} Unicode characters.",
            param="metadata",
        )


def _is_unicode(text: str) -> bool:
    """Return False for half of a surrogate pair, which JSON can write and no store takes."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


async def _check_input(parts: BatchParts, caller: Caller, file_id: str) -> None:
    file = await parts.files.file(caller.tenant, file_id) if is_id(file_id) else None
    if file is None:
        raise InvalidRequest(
            f"No such File object: {file_id[:64]}. Upload it by POST /v1/files.",
            param="input_file_id",
        )
    if file.purpose != INPUT_PURPOSE:
        raise InvalidRequest(
            f'The purpose of a batch\'s input file must be "{INPUT_PURPOSE}".',
            param="input_file_id",
        )
