"""How fast the providers of a model are, as few figures for any number of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from inferline.fleet.registry import Provider, SpeedGroup

#: How many paces are told of those whose backends tell tokens, and how many of the others.
PACES_MAX: Final = 8


def paces(model: str, providers: Sequence[Provider]) -> tuple[SpeedGroup, ...]:
    """
    How fast those of a model are that have slots and know it; the fastest come first.

    Each by itself if they are few. Of many only the fastest is, on which it depends who stands
    back; the others are told by steps.
    """
    known = [
        SpeedGroup(speed=provider.speeds[model], only=provider.id)
        for provider in providers
        if provider.slots and model in provider.speeds
    ]
    told = [pace for pace in known if pace.speed.tokens_per_second > 0]
    untold = [pace for pace in known if pace.speed.tokens_per_second <= 0]
    return (
        *_few(sorted(told, key=lambda pace: (-pace.speed.tokens_per_second, pace.only))),
        *_few(sorted(untold, key=lambda pace: (pace.speed.task_seconds, pace.only))),
    )


def _few(ordered: Sequence[SpeedGroup]) -> Sequence[SpeedGroup]:
    if len(ordered) <= PACES_MAX:
        return ordered
    fastest, *rest = ordered
    # As many of these steps as there may be lead from the fastest of the rest to the slowest.
    step = rest[0].speed.over(rest[-1].speed) ** (1 / (PACES_MAX - 2))
    groups: list[list[SpeedGroup]] = []
    for pace in rest:
        if groups and (
            len(groups) == PACES_MAX - 1 or groups[-1][0].speed.over(pace.speed) <= step
        ):
            groups[-1].append(pace)
        else:
            groups.append([pace])
    return [fastest, *map(_together, groups)]


def _together(group: Sequence[SpeedGroup]) -> SpeedGroup:
    if len(group) == 1:
        return group[0]
    return SpeedGroup(speed=group[len(group) // 2].speed, providers=len(group))
