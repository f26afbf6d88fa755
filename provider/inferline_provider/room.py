"""How many tasks a backend has room for, as far as it tells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

#: What is taken for the slots of a backend that does not tell.
SLOTS_DEFAULT: Final = 1
#: Room that a task takes in a vLLM's cache when nothing better is known, tokens,
TASK_TOKENS: Final = 4096
#: and the most tasks that a stock vLLM runs at once.
VLLM_SLOTS_MAX: Final = 256

_CACHE: Final = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
#: Tasks that wait inside: of each engine of a vLLM, and of llama.cpp.
_WAITING: Final = re.compile(
    r"^(?:vllm:num_requests_waiting|llamacpp:requests_deferred)(?:\{.*\})? ([0-9.e+]+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Room:
    """How many tasks a backend may run at once."""

    #: So many to begin with, and at the most; None: nobody knows.
    slots: int
    most: int | None
    #: Who says so.
    reason: str


UNKNOWN: Final = Room(SLOTS_DEFAULT, None, "the backend does not tell")


def of_props(props: Any) -> Room | None:
    """What llama.cpp's `/props` say; None for what are none."""
    if not isinstance(props, dict) or not isinstance(props.get("total_slots"), int):
        return None
    slots = max(1, props["total_slots"])
    return Room(slots, slots, "the backend's /props say so")


def of_metrics(metrics: str) -> Room | None:
    """How many tasks fit in the cache of a vLLM; it does not tell how many it would run."""
    if (found := _CACHE.search(metrics)) is None:
        return None
    labels = dict(re.findall(r'(\w+)="([^"]*)"', found[1]))
    blocks, block_tokens = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
    if not (blocks.isdecimal() and block_tokens.isdecimal()):
        return None
    slots = max(1, min(VLLM_SLOTS_MAX, int(blocks) * int(block_tokens) // TASK_TOKENS))
    return Room(slots, None, f"its cache holds so many tasks of {TASK_TOKENS} tokens")


def waiting(metrics: str) -> int | None:
    """How many tasks wait inside the backend; None when its metrics do not tell."""
    found = _WAITING.findall(metrics)
    try:
        return int(sum(map(float, found))) if found else None
    except (ValueError, OverflowError):
        return None
