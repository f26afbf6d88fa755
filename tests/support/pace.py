"""Bounds on wall time that a machine with other work to do can't break."""

from __future__ import annotations

import os
import time

#: A bound for a machine that is busy, seconds.
BUSY_SECONDS = 60.0


def within(seconds: float) -> float:
    """Return ``seconds`` as a bound, or `BUSY_SECONDS` where others use the processors too."""
    return max(seconds, BUSY_SECONDS) if _is_busy() else seconds


def _is_busy() -> bool:
    begun, spent = time.monotonic(), time.thread_time()
    while time.thread_time() - spent < 0.05:
        pass
    is_slow = time.monotonic() - begun > 0.06
    return is_slow or os.getloadavg()[0] > (os.cpu_count() or 1)
