"""Medians and spreads of samples."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least ``share`` of all do not exceed."""
    ordered = sorted(samples)
    at = max(0, -(-len(ordered) * share // 1) - 1)
    return ordered[int(at)]


def median(samples: Sequence[float]) -> float:
    """The middle of the samples."""
    return statistics.median(samples)


def spread(values: Sequence[float], digits: int = 0, *, sign: bool = False) -> str:
    """The median of values, and the least and the greatest of them."""
    form = f"{{:{'+' if sign else ''}.{digits}f}}"
    middle, least, greatest = (
        form.format(value) for value in (median(values), min(values), max(values))
    )
    return f"{middle} ({least} to {greatest})" if len(values) > 1 else middle
