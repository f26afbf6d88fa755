"""Fairness between tenants: who has more open than its share waits where it lets others by."""

from __future__ import annotations

from typing import Final

from inferline.task import TIERS, Tier

#: Who has no more than this part of all that is open at a model never gives way: with few slots
#: and much in line, a tenant with more open than there are slots may still be one of the small
#: ones. It is also the part from which on SQS takes it that a tenant makes others wait.
LINE_SHARE: Final = 0.1


def share(slots: int, in_line: int, slots_share: float) -> int:
    """
    How many requests a tenant may have open at a model before the next one gives way, 1 or more.

    ``slots_share`` of its ``slots``, or the line's if that is more: ``in_line`` requests wait or
    run, whoever's they are.
    """
    return max(1, int(slots_share * slots), int(LINE_SHARE * in_line))


def lane(tier: Tier, tenant_open: int, share: int) -> Tier:
    """
    The tier in whose queue a request of ``tier`` waits; it keeps its own in all other respects.

    ``tenant_open`` of its tenant are open, this one included. Each share that is open before it
    leads one tier down, and from the lowest one no further.
    """
    steps = max(0, tenant_open - 1) // share
    return TIERS[min(TIERS.index(tier) + steps, len(TIERS) - 1)]
