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
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
#: Tasks that run inside a backend: of each engine of a vLLM, SGLang or LMDeploy, of llama.cpp and
#: of a TGI,
_RUNNING: Final = re.compile(
    r"^(?:(?:vllm|lmdeploy):num_requests_running|sglang:num_running_reqs"
    r"|llamacpp:requests_processing|tgi_batch_current_size)(?:\{.*\})? ([0-9.e+]+)$",
    re.MULTILINE,
)
#: and tasks that wait inside.
_WAITING: Final = re.compile(
    r"^(?:(?:vllm|lmdeploy):num_requests_waiting|sglang:num_queue_reqs"
    r"|llamacpp:requests_deferred|tgi_queue_size)(?:\{.*\})? ([0-9.e+]+)$",
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


def of_server_info(told: Any) -> Room | None:
    """What vLLM's `/server_info` says, which it has in its development mode; None for nothing."""
    config = told.get("vllm_config") if isinstance(told, dict) else None
    if not isinstance(config, dict):  # A text, where it does not know the format asked for.
        return None
    slots = _whole(config, "scheduler_config", "max_num_seqs")
    slots *= max(1, _whole(config, "parallel_config", "data_parallel_size"))
    return Room(slots, slots, "the backend's /server_info says so") if slots else None


def _whole(config: dict[str, Any], part: str, name: str) -> int:
    inner = config.get(part)
    found = inner.get(name) if isinstance(inner, dict) else None
    return found if type(found) is int and found > 0 else 0


def of_metrics(metrics: str) -> Room | None:
    """How many tasks fit in the cache of a vLLM; it does not tell how many it would run."""
    engines = [dict(_LABEL.findall(labels)) for labels in _CACHE.findall(metrics)]
    tokens = sum(_number(engine, "kv_cache_size_tokens") for engine in engines)
    if engines and not tokens:  # Before 0.30. Each engine tells the blocks of all of them.
        tokens = _number(engines[0], "num_gpu_blocks") * _number(engines[0], "block_size")
    if not tokens:
        return None
    slots = max(1, min(VLLM_SLOTS_MAX, tokens // TASK_TOKENS))
    return Room(slots, None, f"its cache holds so many tasks of {TASK_TOKENS} tokens")


def _number(labels: dict[str, str], name: str) -> int:
    text = labels.get(name, "")
    return int(text) if text.isdecimal() else 0


def waiting(metrics: str) -> int | None:
    """How many tasks wait inside the backend; None when its metrics do not tell."""
    return _sum(_WAITING, metrics)


def working(metrics: str) -> int | None:
    """How many tasks run or wait inside the backend; None when its metrics do not tell."""
    running = _sum(_RUNNING, metrics)
    return None if running is None else running + (waiting(metrics) or 0)


def working_of_slots(told: Any) -> int | None:
    """How many tasks run, as llama.cpp's `/slots` have it; None for what are none."""
    if not isinstance(told, list) or not told:
        return None
    return sum(isinstance(slot, dict) and slot.get("is_processing") is True for slot in told)


def _sum(pattern: re.Pattern[str], metrics: str) -> int | None:
    counts = pattern.findall(metrics)
    try:
        return int(sum(map(float, counts))) if counts else None
    except (ValueError, OverflowError):
        return None
