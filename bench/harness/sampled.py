"""
Runs a module, and notes each two milliseconds of its CPU time where it is.

    python -m bench.harness.sampled OUT MODULE [ARGUMENT...]

OUT is JSON: how many samples there were, and of how many each function was the innermost
(``own``), or anywhere on the stack (``within``).
"""

from __future__ import annotations

import json
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from bench.report import Table

#: Of CPU time: what waits is not seen.
SAMPLE_SECONDS = 0.002
#: It is written anew after so many samples, since not every process ends in peace.
WRITE_SAMPLES = 250
SHOWN = 25
#: Where a module is that is being imported.
IMPORTING = "importlib._bootstrap"


class Sampler:
    """Samples so far."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._samples = 0
        self._own: Counter[str] = Counter()
        self._within: Counter[str] = Counter()

    def start(self) -> None:
        """Have the process interrupted as its CPU time goes on."""
        signal.signal(signal.SIGPROF, self.see)
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_SECONDS, SAMPLE_SECONDS)

    def see(self, number: int, frame: FrameType | None) -> None:
        """Take a sample: what a signal's handler gets. What is spent on imports is left out."""
        stack = []
        while frame is not None:
            stack.append(_named(frame))
            frame = frame.f_back
        if not stack or any(IMPORTING in name for name in stack):
            return
        self._samples += 1
        self._own[stack[0]] += 1
        self._within.update(set(stack))
        if self._samples % WRITE_SAMPLES == 0:
            self.write()

    def write(self) -> None:
        """Write what was seen."""
        profile = {"samples": self._samples, "own": self._own, "within": self._within}
        self._out.write_text(json.dumps(profile))


def _named(frame: FrameType) -> str:
    """Return a function as people look for it: the end of its file's path, and its name."""
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.name} {frame.f_code.co_qualname}"


def read(path: Path) -> dict[str, Any]:
    """Return what a profile has found; empty if it was never written."""
    profile: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return profile


def table(process: str, profile: dict[str, Any]) -> Table:
    """Return the functions that took most."""
    samples = max(1, profile["samples"])
    top = sorted(profile["own"], key=profile["own"].__getitem__, reverse=True)[:SHOWN]
    rows = [
        [name, *(f"{100 * profile[kind][name] / samples:.1f}" for kind in ("own", "within"))]
        for name in top
    ]
    return Table(
        f"Profile of {process}: percent of its CPU time",
        ["function", "itself", "with what it calls"],
        rows,
        f"{samples} samples, one each {SAMPLE_SECONDS * 1000:g} ms of CPU time at the most, "
        "imports left out. What C code takes counts as the Python function's that called it.",
    )


def main() -> None:
    out, module, *arguments = sys.argv[1:]
    sampler = Sampler(Path(out))
    sys.argv = [module, *arguments]
    sampler.start()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        sampler.write()


if __name__ == "__main__":
    main()
