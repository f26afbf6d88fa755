"""A provider's peers: the others that serve its models, as last aggregated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from inferline.fleet.enrolment import Faster
from inferline.fleet.registry import ProviderRecord, Serving

#: A provider less than this many times as fast as another is not called faster: speeds are
#: measured on the tasks that came, and vary with them.
FASTER_TIMES: Final = 1.25


def count(serving: Serving, provider: ProviderRecord) -> int:
    """Return about how many others serve a model; the aggregation may be a little old."""
    return max(0, serving.providers - provider.healthy)


def faster(served: Mapping[str, Serving], provider: ProviderRecord) -> dict[str, Faster]:
    """
    Return the faster peers of a provider, by model, without models that have none.

    Where many serve a model, the provider may be one of several of its own speed.
    """
    peers = {}
    for model, own in provider.speeds.items():
        speed_groups = served[model].speed_groups if model in served else ()
        others = [group for group in speed_groups if group.provider_id != provider.id]
        best = max(
            (group.speed for group in others), key=lambda speed: speed.over(own), default=own
        )
        if (times := best.over(own)) >= FASTER_TIMES:
            fellows = 1 + sum(
                group.providers
                for group in others
                if best.over(group.speed) >= FASTER_TIMES and own.over(group.speed) < FASTER_TIMES
            )
            peers[model] = Faster(times=times, fellows=fellows)
    return peers
