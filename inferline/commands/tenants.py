"""The commands that list tenants and limit them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from inferline.accounts.tenants import PROVIDERS_MAX, Tenant
from inferline.commands.limits import add_limits, limited
from inferline.commands.printing import show
from inferline.commands.stack import add_verb, listed, model_patterns, named, now_ms
from inferline.settings import SettingsError

if TYPE_CHECKING:
    from inferline.stores import StackStores

#: The word that removes a restriction.
_ALL: Final = "*"


def add_tenants(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Declare the verbs of ``inferline tenants``."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    add_verb(verbs, "list", "list the tenants that have limits or keys", environ, _list)
    limit = add_verb(verbs, "set", "limit a tenant, effective within a minute", environ, _set)
    limit.add_argument("id", metavar="TENANT", help="the tenant's name")
    limit.add_argument(
        "--models",
        metavar="A,B*",
        help="models that it may ask for, with the shell's wildcards; * for all (unchanged)",
    )
    limit.add_argument(
        "--providers",
        metavar="ID,ID",
        help="ids of the tokens whose providers alone may have its prompts; * for all (unchanged)",
    )
    add_limits(limit, "unchanged")


async def _list(stores: StackStores, options: argparse.Namespace) -> None:
    limited = {tenant.id: tenant for tenant in await stores.tenants.tenants()}
    named_by = {key.tenant for key in await stores.keys.keys("client")}
    names = sorted(named_by | limited.keys())
    show([_row(limited.get(n) or Tenant(id=n)) for n in names], as_json=options.json)


async def _set(stores: StackStores, options: argparse.Namespace) -> None:
    tenant = await stores.tenants.tenant(named("TENANT", options.id))
    limits = limited(options, tenant.limits)
    if options.models is None and options.providers is None and limits is None:
        raise SettingsError("give --models, --providers or a limit")
    if options.models is not None:
        tenant = replace(tenant, models=model_patterns(options.models))
    if options.providers is not None:
        tenant = replace(tenant, providers=await _tokens(stores, options.providers))
    if limits is not None:
        tenant = replace(tenant, limits=limits)
    await stores.tenants.put_tenant(tenant)
    if options.json:
        print(json.dumps(_row(tenant), indent=2))
    else:
        show([_row(tenant)], as_json=False)


async def _tokens(stores: StackStores, text: str) -> tuple[str, ...] | None:
    """Parse the ids of valid tokens; None for all providers. Raises SettingsError."""
    ids = listed(text)
    if ids == (_ALL,):
        return None
    now = now_ms()
    valid = {key.id for key in await stores.keys.keys("provider") if key.validity(now) == "valid"}
    if not ids or len(ids) > PROVIDERS_MAX or set(ids) - valid:
        raise SettingsError(
            f"--providers must be {_ALL}, or 1 to {PROVIDERS_MAX} ids of providers' tokens in "
            f"force (`inferline providers tokens`), got {text!r}"
        )
    return ids


def _row(tenant: Tenant) -> dict[str, Any]:
    """Return a tenant's row for a list."""
    providers = tenant.providers
    return {
        "id": tenant.id,
        "models": list(tenant.models),
        "providers": [_ALL] if providers is None else list(providers),
        "limits": tenant.limits.as_dict(),
    }
