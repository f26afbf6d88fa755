"""What a provider is told of the others that serve its models."""

from __future__ import annotations

from typing import Final

from inferline.enrolment import Faster
from inferline.registry import Provider, Snapshot

#: Who is less than this many times as fast as another is not faster: speeds are measured on the
#: tasks that came, and sway with them.
FASTER_TIMES: Final = 1.25


def count(snapshot: Snapshot, model: str, provider_id: str) -> int:
    """How many others serve a model, as of a moment ago."""
    return sum(provider.id != provider_id for provider in snapshot.serving(model))


def faster(snapshot: Snapshot, provider: Provider) -> dict[str, Faster]:
    """Who is faster than a provider, by model; only models are named where somebody is."""
    found = {}
    for model, own in provider.speeds.items():
        others = [
            peer.speeds[model]
            for peer in snapshot.serving(model)
            if peer.id != provider.id and peer.slots and model in peer.speeds
        ]
        best = max(others, key=lambda speed: speed.over(own), default=own)
        if (times := best.over(own)) >= FASTER_TIMES:
            fellows = 1 + sum(
                best.over(speed) >= FASTER_TIMES and own.over(speed) < FASTER_TIMES
                for speed in others
            )
            found[model] = Faster(times=times, fellows=fellows)
    return found
