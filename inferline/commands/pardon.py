"""The command that has a quarantined provider taken again."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from typing import Any

from inferline.commands.keys import on_stack, stack_of
from inferline.commands.printing import OK
from inferline.errors import NotFound


def add_pardon(verbs: Any, environ: Mapping[str, str]) -> None:
    """Declare ``inferline providers pardon``."""
    what = "take a provider again that was quarantined for what it wrote"
    parser = on_stack(verbs, "pardon", what)
    parser.add_argument("id", metavar="ID", help="the provider, as listed")
    parser.set_defaults(run=lambda options: asyncio.run(_pardon(options, environ)))


async def _pardon(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from inferline.aws.stores import open_registry

    async with open_registry(stack_of(options, environ)) as registry:
        if not await registry.pardon(options.id):
            raise NotFound(f"There is no quarantined provider {options.id!r}.")
    print(f"Pardoned {options.id}. It is taken again as soon as it is started.")
    return OK
