"""The commands that make, list, rotate and revoke keys and providers' tokens."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from inferline.accounts.caller import LOCAL_TENANT, Role
from inferline.accounts.issuing import Issuer
from inferline.accounts.keys import Key, new_key
from inferline.accounts.limits import UNSET
from inferline.accounts.patterns import EVERY
from inferline.commands.limits import add_limits, limited
from inferline.commands.printing import show
from inferline.commands.stack import add_verb, date, listed, model_patterns, named, now_ms, seconds
from inferline.settings import SettingsError
from inferline.tasks.task import TIERS, Tier

if TYPE_CHECKING:
    from inferline.stores import StackStores

_DAY_MS: Final = 24 * 3600 * 1000

#: The roles of the keys that each noun's commands administer.
_KEYS: Final[tuple[Role, ...]] = ("client", "admin")
_TOKENS: Final[tuple[Role, ...]] = ("provider",)

_USE: Final[dict[Role, str]] = {
    "client": """\
This key is shown once and never again. Clients use it as their API key:
  export OPENAI_API_KEY={text}
To revoke it: inferline keys revoke {id}
""",
    "admin": """\
This key is shown once and never again. It manages clients' keys and providers' tokens:
  curl -H "authorization: Bearer {text}" GATEWAY/v1/keys
To revoke it: inferline keys revoke {id}
""",
    "provider": """\
This token is shown once and never again. Start a provider with it, beside its LLM server:
  export INFERLINE_PROVIDER_TOKEN={text}
  inferline-provider --base-url GATEWAY --backend http://127.0.0.1:8001
To revoke it: inferline providers revoke {id}
""",
}
_ROTATED: Final = "This is the new secret of {id}, shown once. The old one works until {until}.\n"
_KEY_REVOKED: Final = (
    "Revoked {id}. It is refused within a minute; requests made by then are answered."
)
_REVOKED: Final[dict[Role, str]] = {
    "client": _KEY_REVOKED,
    "admin": _KEY_REVOKED,
    "provider": "Revoked {id}. It is refused within a minute; AWS credentials that were lent "
    "for it last for up to an hour.",
}


def add_keys(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Declare the verbs of ``inferline keys``."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    create = add_verb(verbs, "create", "make a key and print it once", environ, _create_key)
    create.add_argument("--name", required=True, help="its name, such as the app's")
    create.add_argument(
        "--role",
        choices=_KEYS,
        default="client",
        help="`client` makes requests, `admin` manages keys at /v1/keys (%(default)s)",
    )
    create.add_argument("--tenant", help="tenant that owns the key (the name)")
    create.add_argument(
        "--models",
        metavar="A,B*",
        help="models that it may ask for, with the shell's wildcards (all)",
    )
    create.add_argument(
        "--tiers", metavar="A,B", help=f"tiers that it may use: some of {', '.join(TIERS)} (all)"
    )
    add_limits(create, "default")
    _add_expiry(create)
    add_verb(verbs, "list", "list the keys", environ, _list, roles=_KEYS)
    _add_id(_add_rotation(verbs, "give a key a new secret", environ, _KEYS))
    _add_id(add_verb(verbs, "revoke", "revoke a key", environ, _revoke, roles=_KEYS))


def add_tokens(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> Any:
    """Declare the verbs of ``inferline providers``, which also works without one; return them."""
    verbs = parser.add_subparsers(metavar="VERB")
    help_text = "make a token for providers to enrol with and print it once"
    token = add_verb(verbs, "token", help_text, environ, _create_token)
    token.add_argument(
        "--models",
        required=True,
        metavar="A,B*",
        help="models that may be served with it, with the shell's wildcards",
    )
    token.add_argument("--name", default="provider", help="its name (%(default)s)")
    _add_expiry(token)
    add_verb(verbs, "tokens", "list the tokens", environ, _list, roles=_TOKENS)
    _add_id(_add_rotation(verbs, "give a token a new secret", environ, _TOKENS))
    _add_id(add_verb(verbs, "revoke", "revoke a token", environ, _revoke, roles=_TOKENS))
    return verbs


def _add_rotation(
    verbs: Any, help_text: str, environ: Mapping[str, str], roles: tuple[Role, ...]
) -> argparse.ArgumentParser:
    parser = add_verb(
        verbs, "rotate", f"{help_text} and print it once", environ, _rotate, roles=roles
    )
    parser.add_argument(
        "--overlap",
        metavar="TIME",
        default="24h",
        help="how long the old secret still works, such as 0s, 90m, 24h or 30d (%(default)s)",
    )
    return parser


def _add_expiry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--expires-days", type=float, metavar="DAYS", help="days until it expires (never)"
    )


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="its id, as listed")


async def _create_key(stores: StackStores, options: argparse.Namespace) -> None:
    role: Role = options.role
    limits = limited(options, UNSET)
    if role == "admin" and (options.tenant or options.models or options.tiers or limits):
        raise SettingsError(
            "--role admin must be used without --tenant, --models, --tiers and limits"
        )
    name, now = named("--name", options.name), now_ms()
    key, text = new_key(
        role,
        name,
        tenant=named("--tenant", options.tenant or name) if role == "client" else LOCAL_TENANT,
        now_ms=now,
        models=EVERY if options.models is None else model_patterns(options.models),
        tiers=TIERS if options.tiers is None else _tiers(options.tiers),
        limits=limits or UNSET,
        expires_ms=_expiry(now, options.expires_days),
    )
    await stores.keys.put_key(key)
    _print_secret(key, text, _USE[role].format(text=text, id=key.id), options)


async def _create_token(stores: StackStores, options: argparse.Namespace) -> None:
    now = now_ms()
    key, text = new_key(
        "provider",
        named("--name", options.name),
        tenant=LOCAL_TENANT,
        now_ms=now,
        models=model_patterns(options.models),
        expires_ms=_expiry(now, options.expires_days),
    )
    await stores.keys.put_key(key)
    _print_secret(key, text, _USE["provider"].format(text=text, id=key.id), options)


async def _list(stores: StackStores, options: argparse.Namespace) -> None:
    now = now_ms()
    keys = await Issuer(stores.keys, options.roles).listed()
    show([_row(key, now, used_ms) for key, used_ms in keys], as_json=options.json)


async def _rotate(stores: StackStores, options: argparse.Namespace) -> None:
    overlap = seconds("--overlap", options.overlap)
    key, text = await Issuer(stores.keys, options.roles).rotate(options.id, now_ms(), overlap)
    instructions = _ROTATED.format(id=key.id, until=date(key.old_until_ms))
    _print_secret(key, text, instructions, options)


async def _revoke(stores: StackStores, options: argparse.Namespace) -> None:
    now = now_ms()
    key = await Issuer(stores.keys, options.roles).revoke(options.id, now)
    message = _REVOKED[key.role].format(id=key.id)
    print(json.dumps(_row(key, now), indent=2) if options.json else message)


def _print_secret(key: Key, text: str, instructions: str, options: argparse.Namespace) -> None:
    """Print the text of a key alone on stdout, for scripts, and the instructions on stderr."""
    if options.json:
        print(json.dumps({"key": text, **_row(key, now_ms())}, indent=2))
        return
    print(text, flush=True)
    print(instructions, end="", file=sys.stderr)


def _row(key: Key, now: int, used_ms: int | None = None) -> dict[str, Any]:
    """Return a key's row for a list."""
    is_client = key.role != "provider"
    has_old = key.old_until_ms is not None and key.old_until_ms > now
    return {
        "id": key.id,
        "name": key.name,
        **({"tenant": key.tenant} if is_client else {"models": list(key.models)}),
        "state": key.validity(now),
        **({"role": key.role, "models": list(key.models)} if is_client else {}),
        **({"tiers": list(key.tiers), "limits": key.limits.as_dict()} if is_client else {}),
        "created": date(key.created_ms),
        "last_used": date(used_ms),
        "expires": date(key.expires_ms),
        "old_secret_until": date(key.old_until_ms) if has_old else None,
        "revoked": date(key.revoked_ms),
    }


def _tiers(text: str) -> tuple[Tier, ...]:
    names = listed(text)
    if not names or set(names) - set(TIERS):
        raise SettingsError(f"--tiers must name some of {', '.join(TIERS)}, got {text!r}")
    return cast("tuple[Tier, ...]", tuple(tier for tier in TIERS if tier in names))


def _expiry(now: int, days: float | None) -> int | None:
    if days is None:
        return None
    if not 0 < days < 36_500:
        raise SettingsError(f"--expires-days must be above 0 and below 36500, got {days:g}")
    return now + int(days * _DAY_MS)
