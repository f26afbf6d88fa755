"""What a provider is told of the others that serve its models, as last counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from inferline.fleet.enrolment import Faster
from inferline.fleet.registry import Provider, Serving

#: Who is less than this many times as fast as another is not faster: speeds are measured on the
#: tasks that came, and sway with them.
FASTER_TIMES: Final = 1.25


def count(serving: Serving, provider: Provider) -> int:
    """How many others serve a model; about, while a change waits to be counted."""
    return max(0, serving.providers - provider.healthy)


def faster(served: Mapping[str, Serving], provider: Provider) -> dict[str, Faster]:
    """
    Who is faster than a provider, by model; only models are named where somebody is.

    Where many serve a model, it may be one among those of its own pace.
    """
    found = {}
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
            found[model] = Faster(times=times, fellows=fellows)
    return found
