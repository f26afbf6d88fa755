"""Says where and with what the measurements were made."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import platform
import subprocess
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from bench.harness.processes import ROOT

LITELLM_PYTHON = ROOT / ".venv-bench/bin/python"
_OURS = ("inferline", "fastapi", "uvicorn", "httptools", "uvloop", "pydantic", "ministack")


def cores() -> int:
    """Return the cores that everything under measurement shares."""
    return len(os.sched_getaffinity(0))


def pool() -> ProcessPoolExecutor:
    """
    Return a process for each core, begun anew: a fork would have the locks of this one's threads.
    """
    return ProcessPoolExecutor(cores(), mp_context=multiprocessing.get_context("spawn"))


def describe() -> dict[str, str]:
    """Return everything about the machine and the software that bears on a figure."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": f"{_cpu_model()}, {cores()} cores",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "load before": load,
        "commit": _commit(),
        "ours": ", ".join(f"{name} {_version(name)}" for name in _OURS),
        "litellm": _litellm_versions(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.lower().startswith(("model name", "cpu model")):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    except OSError:
        return "unknown"


def _litellm_versions() -> str:
    if not LITELLM_PYTHON.exists():
        return "absent: run `make bench`, or `make .venv-bench/.synced`"
    code = (
        "import importlib.metadata as m, platform\n"
        "names = 'litellm', 'aiohttp', 'uvicorn', 'uvloop', 'httptools', 'granian'\n"
        "have = {d.metadata['Name']: d.version for d in m.distributions()}\n"
        "print(', '.join(f'{n} {have.get(n, \"absent\")}' for n in names), end='')\n"
        "print(', python', platform.python_version())\n"
    )
    command = [str(LITELLM_PYTHON), "-c", code]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
