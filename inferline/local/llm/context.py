"""The context length of the built-in LLM's slots, and the memory that it takes."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

#: Tokens of a slot if a file does not say what its model was made for.
USUAL_TOKENS = 8192
#: Unless it is asked for, all slots' context takes no more than this share of the machine's memory.
MEMORY_SHARE = 1 / 4
#: Such a context is a multiple of so many tokens, and has so many at the least.
STEP_TOKENS = 256
#: Bytes of a number of the cache: llama.cpp keeps it in half precision.
NUMBER_BYTES = 2

_STRING, _ARRAY = 8, 9
#: How numbers are written, by their type.
_FORMATS = dict(enumerate(("B", "b", "H", "h", "I", "i", "f", "?", "", "", "Q", "q", "d")))
#: The sections of a file are far fewer; what has more is no GGUF file.
_FIELDS_MAX = 65_536


@dataclass(frozen=True)
class Shape:
    """The properties of a model that determine its context."""

    #: The longest context that it was made for, tokens; 0: unknown.
    tokens: int
    #: What a token of context takes, bytes; 0: unknown.
    token_bytes: int


def chosen(shape: Shape, slots: int, wanted: int | None, memory_bytes: int) -> int:
    """
    Return the tokens of each slot: the number asked for, or the model's own as far as memory
    allows.

    Never more than the model was made for: llama.cpp would give no more.
    """
    if wanted is not None:
        return min(wanted, shape.tokens or wanted)
    own = shape.tokens or USUAL_TOKENS
    if not shape.token_bytes:
        return min(own, USUAL_TOKENS)
    most = int(memory_bytes * MEMORY_SHARE) // (slots * shape.token_bytes)
    return own if own <= most else max(STEP_TOKENS, most // STEP_TOKENS * STEP_TOKENS)


def described(shape: Shape, slots: int, tokens: int) -> str:
    """Describe slots, their context and its memory for people."""
    mebibytes = slots * tokens * shape.token_bytes / 2**20
    size = f" ({mebibytes:.0f} MiB)" if mebibytes else ""
    return f"{slots} slots of {tokens} tokens{size}"


def memory_bytes() -> int:
    """Return this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def shape_of(path: Path) -> Shape:
    """Read the shape of a GGUF file's model, as far as its header has it."""
    try:
        with path.open("rb") as file:
            return _shape(_fields(file))
    except (OSError, ValueError, struct.error, KeyError, TypeError):
        return Shape(0, 0)


def _shape(fields: Mapping[str, Any]) -> Shape:
    def field(name: str, default: int = 0) -> Any:
        return fields.get(f"{fields['general.architecture']}.{name}", default)

    heads, layers = field("attention.head_count"), field("block_count")
    shared = field("attention.head_count_kv", heads)
    heads_kept = sum(shared) if isinstance(shared, list) else shared * layers
    most_heads = max(heads) if isinstance(heads, list) else heads
    width = field("embedding_length") // most_heads if most_heads else 0
    widths = field("attention.key_length", width) + field("attention.value_length", width)
    return Shape(field("context_length"), heads_kept * widths * NUMBER_BYTES)


def _fields(file: BinaryIO) -> dict[str, Any]:
    """Read the fields before the vocabulary, which stands behind everything needed here."""
    magic, _version, _tensors, count = struct.unpack("<4sIQQ", file.read(24))
    if magic != b"GGUF" or count > _FIELDS_MAX:
        raise ValueError("it is no GGUF file")
    fields: dict[str, Any] = {}
    for _ in range(count):
        name = _text(file)
        if name.startswith("tokenizer."):
            break
        fields[name] = _value(file, _number(file, "I"))
    return fields


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _text(file)
    if kind == _ARRAY:
        each, count = _number(file, "I"), _number(file, "Q")
        if count > _FIELDS_MAX:
            raise ValueError("a field is too long")
        return [_value(file, each) for _ in range(count)]
    return _number(file, _FORMATS[kind])


def _text(file: BinaryIO) -> str:
    length = _number(file, "Q")
    if length > _FIELDS_MAX:
        raise ValueError("a text is too long")
    return file.read(length).decode(errors="replace")


def _number(file: BinaryIO, form: str) -> Any:
    form = f"<{form}"
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]
