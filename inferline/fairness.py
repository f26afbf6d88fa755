"""Fairness between tenants: who has more open than its share waits where it lets others by."""

from __future__ import annotations

from typing import Final

from inferline.task import TIERS, Tier

#: So many tenants are taken to be in line at least: a gateway may see only some of them.
TENANTS_MIN: Final = 4


def share(most: float, in_line: int = 0, tenants: int = 0) -> int:
    """
    How many requests a tenant may have open at a model before the next one gives way, 1 or more.

    ``most`` of them in any case, or as many as everybody has on average, if that is more:
    ``in_line`` wait or run, of so many tenants. With few slots and much in line, who has more open
    than could run at once may still be one of the small ones.
    """
    return max(1, int(most), in_line // max(TENANTS_MIN, tenants))


def lane(tier: Tier, tenant_open: int, share: int) -> Tier:
    """
    The tier in whose queue a request of ``tier`` waits; it keeps its own in all other respects.

    ``tenant_open`` of its tenant are open, this one included. Each share that is open before it
    leads one tier down, and from the lowest one no further.
    """
    steps = max(0, tenant_open - 1) // share
    return TIERS[min(TIERS.index(tier) + steps, len(TIERS) - 1)]
