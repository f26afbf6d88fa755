"""Medians and spreads of samples."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from math import ceil


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least ``share`` of all do not exceed."""
    ordered = sorted(samples)
    # Rounded, so that 0.99 of 100 is the 99th.
    return ordered[max(0, ceil(round(len(ordered) * share, 6)) - 1)]


def percentile_of(counts: Mapping[float, int], share: float) -> float:
    """Return the same of samples that were counted by their value."""
    wanted = max(1, ceil(round(sum(counts.values()) * share, 6)))
    for value in sorted(counts):
        wanted -= counts[value]
        if wanted <= 0:
            return value
    raise ValueError("a percentile of nothing")


def tells(samples: Sequence[float], share: float) -> bool:
    """Return whether there are enough samples for a percentile: at least one is beyond it."""
    return round(len(samples) * (1 - share), 6) >= 1


def median(samples: Sequence[float]) -> float:
    """Return the middle of the samples."""
    return statistics.median(samples)


def spread(values: Sequence[float], digits: int = 0, *, sign: bool = False) -> str:
    """Return the median of values, and the least and the greatest of them."""
    form = f"{{:{'+' if sign else ''}.{digits}f}}"
    middle, least, greatest = (
        form.format(value) for value in (median(values), min(values), max(values))
    )
    return f"{middle} ({least} to {greatest})" if len(values) > 1 else middle


def cumulative(samples: Sequence[float], points: int = 100) -> list[tuple[float, float]]:
    """
    Return the points of a line: milliseconds, and the percentage of all samples that are no
    greater.
    """
    ordered = sorted(samples)
    last = len(ordered) - 1
    picked = sorted({round(last * n / points) for n in range(points + 1)})
    return [(ordered[at], 100 * (at + 1) / len(ordered)) for at in picked]
