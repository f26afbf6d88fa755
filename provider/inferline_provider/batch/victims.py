"""The choice of the line that makes room for a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from inferline_provider.batch.line_run import LineRun

#: A line that was suspended is left alone for so long, if there are others, seconds.
AGAIN_SECONDS: Final = 10.0


def victim(runs: Iterable[LineRun], now: float) -> LineRun | None:
    """
    Return the line to suspend: the one that costs least. None if all are nearly done.

    One that can't go on later comes last, since its work would be lost; of these the youngest.
    """
    able = (run for run in runs if not run.is_nearly_done)
    return min(able, key=lambda run: _cost(run, now), default=None)


def _cost(run: LineRun, now: float) -> tuple[bool, bool, int, float]:
    is_again = now - run.suspended_at < AGAIN_SECONDS
    return is_again, not run.may_resume, run.tokens, -run.begun_at
