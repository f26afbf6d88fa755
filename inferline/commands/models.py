"""The command that removes a model without providers."""

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
    """A refusal to remove a model that a provider still has."""


def add_models(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Declare ``inferline models remove``; without a verb the models are listed."""
    verbs = parser.add_subparsers(metavar="VERB")
    help_text = "remove a model that no provider has"
    remove = add_verb(verbs, "remove", help_text, environ, _remove)
    remove.add_argument("name", metavar="NAME", help="the model, as listed")


async def _remove(stores: StackStores, options: argparse.Namespace) -> None:
    snapshot = await stores.registry.snapshot(consistent=True)
    # Models dedicated to tenants are removed with the one for all.
    names = [name for name in snapshot.models if options.name in (name, base_name(name))]
    if not names:
        raise NotFound(f"There is no model {options.name!r}. `inferline models` lists them.")
    live = snapshot.providers.values()
    served = sorted(provider.id for provider in live if not set(names).isdisjoint(provider.models))
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
            "enrols with it adds it again, and so does `models` in cdk.json."
        )
