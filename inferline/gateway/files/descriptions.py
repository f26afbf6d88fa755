"""The fields that describe a file: checked alike in a form and in an upload's JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from inferline.errors import InvalidRequest
from inferline.files.file import PURPOSES
from inferline.settings import FILE_SECONDS_MIN, Settings

FILENAME_CHARS_MAX: Final = 512
#: The name of a file that came without one: openai-python's, for bytes.
_UNNAMED: Final = "upload"
#: A name without control characters, as a pattern.
PRINTED: Final = r"^[^\u0000-\u001f\u007f-\u009f]*$"
_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"
#: The texts of a form that describe its file.
FORM_FIELDS: Final = frozenset({"purpose", _ANCHOR, _SECONDS})
_SECONDS_DIGITS_MAX: Final = 9


def checked_filename(filename: str) -> str:
    """Return a file's name, `upload` for none. Raises InvalidRequest."""
    if len(filename) > FILENAME_CHARS_MAX or not re.fullmatch(PRINTED, filename):
        raise InvalidRequest(
            f"A file's name may have {FILENAME_CHARS_MAX} printable characters at most.",
            param="filename",
        )
    return filename or _UNNAMED


def checked_purpose(purpose: str | None) -> str:
    """Return a file's purpose. Raises InvalidRequest."""
    if purpose not in PURPOSES:
        raise InvalidRequest(f"`purpose` must be one of {', '.join(PURPOSES)}.", param="purpose")
    return purpose


def form_seconds(fields: Mapping[str, str], settings: Settings) -> int:
    """Return how long the file of a form is kept, by its `expires_after`. Raises InvalidRequest."""
    anchor, seconds = fields.get(_ANCHOR), fields.get(_SECONDS)
    if anchor is None and seconds is None:
        return settings.file_seconds_kept
    if anchor != "created_at":
        raise InvalidRequest(f"`{_ANCHOR}` must be created_at.", param=_ANCHOR)
    seconds = seconds or ""
    is_number = seconds.isascii() and seconds.isdigit() and len(seconds) <= _SECONDS_DIGITS_MAX
    return checked_seconds(int(seconds) if is_number else 0, settings, _SECONDS)


def checked_seconds(seconds: int, settings: Settings, param: str) -> int:
    """Return how long a file is kept. Raises InvalidRequest."""
    seconds_max = settings.file_seconds_kept
    if not FILE_SECONDS_MIN <= seconds <= seconds_max:
        raise InvalidRequest(
            f"`{param}` must be a number from {FILE_SECONDS_MIN} to {seconds_max} here.",
            param=param,
        )
    return seconds
