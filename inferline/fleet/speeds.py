"""The speeds of a model's providers, in a few groups for any number of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from inferline.fleet.registry import ProviderRecord, SpeedGroup

#: Groups of the providers whose backends report tokens, and as many of the others.
GROUPS_MAX: Final = 8


def speed_groups(model: str, providers: Sequence[ProviderRecord]) -> tuple[SpeedGroup, ...]:
    """
    Return the speeds of a model's providers that have slots and know it, fastest first.

    Each provider is a group if they are few. Of many only the fastest is, since who yields depends
    on it; the others are grouped in steps.
    """
    known = [
        SpeedGroup(speed=provider.speeds[model], provider_id=provider.id)
        for provider in providers
        if provider.slots and model in provider.speeds
    ]
    by_tokens = [group for group in known if group.speed.tokens_per_second > 0]
    by_time = [group for group in known if group.speed.tokens_per_second <= 0]
    return (
        *_few(
            sorted(by_tokens, key=lambda group: (-group.speed.tokens_per_second, group.provider_id))
        ),
        *_few(sorted(by_time, key=lambda group: (group.speed.task_seconds, group.provider_id))),
    )


def _few(ordered: Sequence[SpeedGroup]) -> Sequence[SpeedGroup]:
    if len(ordered) <= GROUPS_MAX:
        return ordered
    fastest, *rest = ordered
    # As many of these steps as there may be lead from the fastest of the rest to the slowest.
    step = rest[0].speed.over(rest[-1].speed) ** (1 / (GROUPS_MAX - 2))
    groups: list[list[SpeedGroup]] = []
    for group in rest:
        if groups and (
            len(groups) == GROUPS_MAX - 1 or groups[-1][0].speed.over(group.speed) <= step
        ):
            groups[-1].append(group)
        else:
            groups.append([group])
    return [fastest, *map(_together, groups)]


def _together(group: Sequence[SpeedGroup]) -> SpeedGroup:
    if len(group) == 1:
        return group[0]
    return SpeedGroup(speed=group[len(group) // 2].speed, providers=len(group))
