"""Choice of the backend's models that this provider offers, and their names for clients."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from inferline.fleet.enrolment import MODELS_MAX, OfferedModel
from inferline.names import NAME

log = logging.getLogger(__name__)


def by_hand(wanted: Collection[str], aliases: Mapping[str, str]) -> list[OfferedModel]:
    """Return the models of a backend without a list: the ones that the operator names."""
    names = dict.fromkeys(aliases.get(name, name) for name in wanted or aliases)
    return [OfferedModel.model_construct(id=name) for name in names]


def offered(
    listed: Sequence[OfferedModel], wanted: Collection[str], aliases: Mapping[str, str]
) -> tuple[OfferedModel, ...]:
    """
    Return the models to enrol with, in the backend's order.

    A model with an alias is offered under its aliases only. `wanted` has names of either kind;
    empty means all. A name that clients can't use is left out, with a warning.
    """
    models: dict[str, OfferedModel] = {}
    for model in listed:
        names = [public for public, name in aliases.items() if name == model.id] or [model.id]
        for name in names:
            if wanted and not {name, model.id} & set(wanted):
                continue
            if NAME.fullmatch(name):
                models[name] = model.model_copy(update={"id": name})
            else:
                log.warning(
                    "A model's name can't be offered; give it one with --alias. name=%r", name
                )
    if len(models) > MODELS_MAX:
        log.warning("Only the first models are offered. listed=%d max=%d", len(models), MODELS_MAX)
    return tuple(models.values())[:MODELS_MAX]
