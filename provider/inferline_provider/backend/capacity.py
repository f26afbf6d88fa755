"""Capacity of a backend: how many tasks it can run at once, as it reports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

#: Slots of a backend that does not report any.
SLOTS_DEFAULT: Final = 1
#: Tokens that a task is taken to need in a vLLM's cache.
TASK_TOKENS: Final = 4096
#: The most tasks that a stock vLLM runs at once.
VLLM_SLOTS_MAX: Final = 256

_CACHE: Final = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
#: Metrics of the tasks that run inside a backend: of each engine of a vLLM, SGLang or LMDeploy, of
#: llama.cpp and of a TGI.
_RUNNING: Final = re.compile(
    r"^(?:(?:vllm|lmdeploy):num_requests_running|sglang:num_running_reqs"
    r"|llamacpp:requests_processing|tgi_batch_current_size)(?:\{.*\})? ([0-9.e+]+)$",
    re.MULTILINE,
)
#: The same of the tasks that wait inside.
_WAITING: Final = re.compile(
    r"^(?:(?:vllm|lmdeploy):num_requests_waiting|sglang:num_queue_reqs"
    r"|llamacpp:requests_deferred|tgi_queue_size)(?:\{.*\})? ([0-9.e+]+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Room:
    """A number of tasks that a backend may run at once."""

    #: Slots to begin with.
    slots: int
    #: The most slots; None if not known.
    most: int | None
    #: The source, as a clause for the log.
    reason: str


UNKNOWN: Final = Room(SLOTS_DEFAULT, None, "the backend does not report it")


def of_props(props: Any) -> Room | None:
    """Return the room by llama.cpp's `/props`; None for any other document."""
    if not isinstance(props, dict) or not isinstance(props.get("total_slots"), int):
        return None
    slots = max(1, props["total_slots"])
    return Room(slots, slots, "the backend's /props say so")


def of_server_info(document: Any) -> Room | None:
    """Return the room by vLLM's `/server_info`, which its development mode has; None for none."""
    config = document.get("vllm_config") if isinstance(document, dict) else None
    if not isinstance(config, dict):  # A text, where it does not know the query's format.
        return None
    slots = _whole(config, "scheduler_config", "max_num_seqs")
    slots *= max(1, _whole(config, "parallel_config", "data_parallel_size"))
    return Room(slots, slots, "the backend's /server_info says so") if slots else None


def _whole(config: dict[str, Any], part: str, name: str) -> int:
    inner = config.get(part)
    value = inner.get(name) if isinstance(inner, dict) else None
    return value if type(value) is int and value > 0 else 0


def of_metrics(metrics: str) -> Room | None:
    """Return the room in the cache of a vLLM, which does not report how many tasks it would run."""
    engines = [dict(_LABEL.findall(labels)) for labels in _CACHE.findall(metrics)]
    tokens = sum(_number(engine, "kv_cache_size_tokens") for engine in engines)
    if engines and not tokens:  # Before 0.30. Each engine reports the blocks of all.
        tokens = _number(engines[0], "num_gpu_blocks") * _number(engines[0], "block_size")
    if not tokens:
        return None
    slots = max(1, min(VLLM_SLOTS_MAX, tokens // TASK_TOKENS))
    return Room(slots, None, f"its cache holds so many tasks of {TASK_TOKENS} tokens")


def _number(labels: dict[str, str], name: str) -> int:
    text = labels.get(name, "")
    return int(text) if text.isdecimal() else 0


def waiting(metrics: str) -> int | None:
    """Return how many tasks wait inside the backend; None if its metrics lack it."""
    return _sum(_WAITING, metrics)


def working(metrics: str) -> int | None:
    """Return how many tasks run or wait inside the backend; None if its metrics lack it."""
    running = _sum(_RUNNING, metrics)
    return None if running is None else running + (waiting(metrics) or 0)


def working_of_slots(slots: Any) -> int | None:
    """Return how many tasks run by llama.cpp's `/slots`; None for any other document."""
    if not isinstance(slots, list) or not slots:
        return None
    return sum(isinstance(slot, dict) and slot.get("is_processing") is True for slot in slots)


def _sum(pattern: re.Pattern[str], metrics: str) -> int | None:
    counts = pattern.findall(metrics)
    try:
        return int(sum(map(float, counts))) if counts else None
    except (ValueError, OverflowError):
        return None
