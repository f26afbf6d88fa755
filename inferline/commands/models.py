"""The command that has a model forgotten whose providers are gone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from inferline.commands.stack import add_verb
from inferline.errors import InferLineError, NotFound
from inferline.names import base_name

if TYPE_CHECKING:
    from inferline.stores import StackStores


class ModelServed(InferLineError):
    """A model can't be removed while a provider has it."""


def add_models(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Declare ``inferline models remove``; without a verb the models are listed."""
    verbs = parser.add_subparsers(metavar="VERB")
    what = "take a model off the list that no provider has any more"
    remove = add_verb(verbs, "remove", what, environ, _remove)
    remove.add_argument("name", metavar="NAME", help="the model, as listed")


async def _remove(stores: StackStores, options: argparse.Namespace) -> None:
    snapshot = await stores.registry.snapshot(consistent=True)
    # What is reserved for tenants goes with what is for all.
    names = [name for name in snapshot.models if options.name in (name, base_name(name))]
    if not names:
        raise NotFound(f"There is no model {options.name!r}. `inferline models` lists them.")
    live = snapshot.providers.values()
    served = sorted(one.id for one in live if not set(names).isdisjoint(one.models))
    if served:
        raise ModelServed(
            f"The model {options.name!r} is served by {', '.join(served)}, which would bring it "
            "back: stop them or take it out of their MODELS, and remove it a minute later."
        )
    for name in names:
        await stores.registry.remove_model(name)
    if options.json:
        print(json.dumps({"id": options.name, "removed": True}))
    else:
        print(
            f"Removed {options.name}. Requests for it are refused within a minute. A provider that "
            "brings it makes it known again, and so does `models` in cdk.json."
        )
