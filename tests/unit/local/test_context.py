"""How many tokens a slot of the built-in LLM has."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from inferline.local import plan
from inferline.local.llm import model
from inferline.local.llm.context import USUAL_TOKENS, Shape, chosen, described, shape_of
from inferline.local.options import LocalOptions

GIB = 2**30
#: SmolLM2-135M's.
SMALL = {
    "general.architecture": "llama",
    "llama.context_length": 8192,
    "llama.embedding_length": 576,
    "llama.block_count": 30,
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def field(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        return text(name) + struct.pack("<I", 8) + text(value)
    if isinstance(value, list):
        items = b"".join(struct.pack("<i", one) for one in value)
        return text(name) + struct.pack("<IIQ", 9, 5, len(value)) + items
    return text(name) + struct.pack("<II", 4, value)


def gguf(path: Path, fields: dict[str, Any]) -> Path:
    """Write a file with these fields and, behind them, a vocabulary that is cut off."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, 0, len(fields) + 1)
    path.write_bytes(head + b"".join(field(*one) for one in fields.items()) + text("tokenizer.x"))
    return path


@pytest.mark.parametrize(
    ("changes", "token_bytes"),
    [
        ({}, 23_040),
        ({"llama.attention.key_length": 128, "llama.attention.value_length": 64}, 34_560),
        ({"llama.attention.head_count_kv": [3] * 29 + [0]}, 22_272),
    ],
    ids=["plain", "with wider keys", "with layers that keep nothing"],
)
def test_a_file_tells_what_context_takes(
    changes: dict[str, Any], token_bytes: int, tmp_path: Path
) -> None:
    assert Shape(8192, token_bytes) == shape_of(gguf(tmp_path / "m.gguf", SMALL | changes))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK" * 100, b"GGUF" + b"\xff" * 100])
def test_what_is_no_such_file_tells_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)

    assert Shape(0, 0) == shape_of(path)


@pytest.mark.parametrize(
    ("shape", "asked", "tokens"),
    [
        (model.SHAPE, None, 8192),
        (model.SHAPE, 4096, 4096),
        (model.SHAPE, 16_384, 8192),
        (Shape(131_072, 114_688), None, 9216),
        (Shape(131_072, 114_688), 20_000, 20_000),
        (Shape(131_072, 10**9), None, 256),
        (Shape(0, 0), None, USUAL_TOKENS),
        (Shape(0, 0), 500, 500),
    ],
)
def test_context_is_the_models_own_as_far_as_memory_goes(
    shape: Shape, asked: int | None, tokens: int
) -> None:
    assert tokens == chosen(shape, 4, asked, 16 * GIB)


def test_the_demo_says_what_its_context_takes(tmp_path: Path) -> None:
    environ = {"INFERLINE_CACHE_DIR": str(tmp_path)}

    (llm,) = [p for p in plan.parts(LocalOptions(context=4096), environ) if p.name == "llm"]

    assert "4 slots of 4096 tokens (360 MiB)" in llm.what
    assert "4096" == llm.argv[llm.argv.index("--context") + 1]
    assert "2 slots of 500 tokens" == described(Shape(0, 0), 2, 500)
