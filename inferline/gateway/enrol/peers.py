"""A provider's peers: the others that serve its models, as last aggregated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from inferline.fleet.enrolment import Faster
from inferline.fleet.registry import Provider, Serving

#: A provider less than this many times as fast as another is not called faster: speeds are
#: measured on the tasks that came, and vary with them.
FASTER_TIMES: Final = 1.25


def count(serving: Serving, provider: Provider) -> int:
    """Return about how many others serve a model; the aggregation may be a little old."""
    return max(0, serving.providers - provider.healthy)


def faster(served: Mapping[str, Serving], provider: Provider) -> dict[str, Faster]:
    """
    Return the faster peers of a provider, by model, without models that have none.

    Where many serve a model, the provider may be one of several of its own speed.
    """
    peers = {}
    for model, own in provider.speeds.items():
        paces = served[model].paces if model in served else ()
        others = [pace for pace in paces if pace.only != provider.id]
        best = max((pace.speed for pace in others), key=lambda speed: speed.over(own), default=own)
        if (times := best.over(own)) >= FASTER_TIMES:
            fellows = 1 + sum(
                pace.providers
                for pace in others
                if best.over(pace.speed) >= FASTER_TIMES and own.over(pace.speed) < FASTER_TIMES
            )
            peers[model] = Faster(times=times, fellows=fellows)
    return peers
