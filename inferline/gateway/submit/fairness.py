"""Fairness between tenants: who has more open than its share waits where it lets others by."""

from __future__ import annotations

from typing import Final

from inferline.tasks.task import TIERS, Tier

#: What part of the largest tenant's open requests another one may have. With few slots and a long
#: line, who has more open than could run at once may still be one of the small ones.
OF_LARGEST: Final = 0.5


def share(most: float, largest: int = 0) -> int:
    """
    How many requests a tenant may have open at a model before the next one gives way, 1 or more.

    ``most`` of them in any case, or a part of the ``largest`` number that any tenant has open, if
    that is more: compared with the largest, not with the average, several are told from a small one
    however many they are.
    """
    return max(1, int(most), int(largest * OF_LARGEST))


def lane(tier: Tier, tenant_open: int, share: int) -> Tier:
    """
    The tier in whose queue a request of ``tier`` waits; it keeps its own in all other respects.

    ``tenant_open`` of its tenant are open, this one included. What is beyond the share waits where
    everybody goes before it, whatever the tier: a tier higher than the lowest would be one that
    others with little have asked for.
    """
    return tier if tenant_open <= share else TIERS[-1]
