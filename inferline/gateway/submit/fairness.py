"""Fairness between tenants: requests beyond a tenant's share wait in the lowest tier's queue."""

from __future__ import annotations

from typing import Final

from inferline.tasks.task import TIERS, Tier

#: The part of the largest tenant's open requests that another may have. With few slots and a long
#: queue, a tenant with more open than can run at once may still be a small one.
OF_LARGEST: Final = 0.5


def share(most: float, largest: int = 0) -> int:
    """
    Return how many requests a tenant may have open at a model before the next gives way, 1 or more.

    It is ``most``, or a part of the ``largest`` number that any tenant has open, if that is more.
    Compared with the largest and not the average, many large tenants are still seen as large.
    """
    return max(1, int(most), int(largest * OF_LARGEST))


def effective_tier(tier: Tier, tenant_open: int, share: int) -> Tier:
    """
    Return the tier in whose queue a request waits; in all other respects it keeps its ``tier``.

    ``tenant_open``: open requests of its tenant, this one included. Beyond the share it is the
    lowest tier, so that every other request goes first, whatever its tier.
    """
    return tier if tenant_open <= share else TIERS[-1]
