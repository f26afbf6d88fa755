"""The command that ends a provider's quarantine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from inferline.commands.stack import add_verb
from inferline.errors import NotFound

if TYPE_CHECKING:
    from inferline.stores import StackStores


def add_pardon(verbs: Any, environ: Mapping[str, str]) -> None:
    """Declare ``inferline providers pardon``."""
    help_text = "end the quarantine of a provider"
    parser = add_verb(verbs, "pardon", help_text, environ, _pardon)
    parser.add_argument("id", metavar="ID", help="the provider, as listed")


async def _pardon(stores: StackStores, options: argparse.Namespace) -> None:
    if not await stores.registry.pardon(options.id):
        raise NotFound(f"There is no quarantined provider {options.id!r}.")
    if options.json:
        print(json.dumps({"id": options.id, "pardoned": True}))
    else:
        print(f"Pardoned {options.id}. It can enrol again once it is started.")
