"""
The commands that make, list and revoke keys and providers' tokens.

They work on the registry table itself, with the operator's AWS credentials: who may do that is
IAM's to say, and there is no key that could make keys.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from inferline.caller import LOCAL_TENANT, Role
from inferline.commands.printing import OK, show
from inferline.errors import NotFound
from inferline.keys import Key, KeyStore, new_key
from inferline.registry import NAME
from inferline.settings import Settings, SettingsError

#: A model's name, with the wildcards of the shell.
_PATTERN: Final = re.compile(r"[A-Za-z0-9_./:@+*?\[\]!-]{1,128}")
_DAY_MS: Final = 24 * 3600 * 1000

_NEXT: Final[dict[Role, str]] = {
    "client": """\
This key is shown once and never again. Clients use it as their API key:
  export OPENAI_API_KEY={text}
To take it back: inferline keys revoke {id}
""",
    "provider": """\
This token is shown once and never again. Start a provider with it, beside its LLM server:
  export INFERLINE_PROVIDER_TOKEN={text}
  inferline-provider --base-url GATEWAY --backend http://127.0.0.1:8001
To take it back: inferline providers revoke {id}
""",
}
_REVOKED: Final[dict[Role, str]] = {
    "client": "Revoked {id}. It is refused within a minute; what it has asked by then is answered.",
    "provider": "Revoked {id}. It is refused within a minute, and AWS credentials that it has "
    "brought last for up to an hour.",
}
_NOUN: Final[dict[Role, str]] = {"client": "key", "provider": "provider's token"}


def add_keys(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Declare the verbs of ``inferline keys``."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    create = _verb(verbs, "create", "make a key and print it, once", environ, _create, "client")
    create.add_argument("--name", required=True, help="what to call it, such as the app's name")
    create.add_argument("--tenant", help="whose it is; tenants share the queues fairly (the name)")
    _add_expiry(create)
    _verb(verbs, "list", "list the keys", environ, _list, "client")
    _add_id(_verb(verbs, "revoke", "take a key back", environ, _revoke, "client"))


def add_tokens(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> Any:
    """Declare the verbs of ``inferline providers``, which also goes without one; gives them."""
    verbs = parser.add_subparsers(metavar="VERB")
    help_text = "make a token that providers enrol with and print it, once"
    token = _verb(verbs, "token", help_text, environ, _create, "provider")
    token.add_argument(
        "--models",
        required=True,
        metavar="A,B*",
        help="the models that may be served with it, with the shell's wildcards",
    )
    token.add_argument("--name", default="provider", help="what to call it (%(default)s)")
    _add_expiry(token)
    _verb(verbs, "tokens", "list the tokens", environ, _list, "provider")
    _add_id(_verb(verbs, "revoke", "take a token back", environ, _revoke, "provider"))
    return verbs


Verb = Callable[[KeyStore, argparse.Namespace], Awaitable[None]]


def _verb(
    verbs: Any, name: str, what: str, environ: Mapping[str, str], does: Verb, role: Role
) -> argparse.ArgumentParser:
    parser = on_stack(verbs, name, what)
    parser.add_argument("--json", action="store_true", help="print JSON")

    def run(options: argparse.Namespace) -> int:
        return asyncio.run(_on_stack(options, environ, does))

    parser.set_defaults(run=run, role=role)
    return parser


def on_stack(verbs: Any, name: str, what: str) -> argparse.ArgumentParser:
    """Declare a verb that works on a stack's own table."""
    told = (
        f"{what[0].upper()}{what[1:]}. Works on the stack's registry table with your AWS "
        "credentials, in AWS_REGION (or at AWS_ENDPOINT_URL, an emulator's)."
    )
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=told)
    parser.add_argument(
        "--stack", metavar="NAME", help="the stack (INFERLINE_STACK; default inferline)"
    )
    return parser


def stack_of(options: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The settings of the stack that is meant. Raises SettingsError."""
    given = {"AWS_REGION": environ.get("AWS_DEFAULT_REGION", ""), **environ}
    if options.stack:
        given["INFERLINE_STACK"] = options.stack
    return Settings.from_env(given)


def _add_expiry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--expires-days", type=float, metavar="DAYS", help="after which it is refused (never)"
    )


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="its id, as listed")


async def _on_stack(options: argparse.Namespace, environ: Mapping[str, str], does: Verb) -> int:
    from inferline.aws.stores import open_keys

    async with open_keys(stack_of(options, environ)) as store:
        await does(store, options)
    return OK


async def _create(store: KeyStore, options: argparse.Namespace) -> None:
    role: Role = options.role
    now_ms = time.time_ns() // 1_000_000
    name = _named("--name", options.name)
    key, text = new_key(
        role,
        name,
        tenant=_named("--tenant", options.tenant or name) if role == "client" else LOCAL_TENANT,
        now_ms=now_ms,
        models=_patterns(options.models) if role == "provider" else ("*",),
        expires_ms=_expiry(now_ms, options.expires_days),
    )
    await store.put_key(key)
    if options.json:
        print(json.dumps({"key": text, **_row(key, now_ms)}, indent=2))
        return
    print(text, flush=True)  # Alone, so that a script can take it.
    print(_NEXT[role].format(text=text, id=key.id), end="", file=sys.stderr)


async def _list(store: KeyStore, options: argparse.Namespace) -> None:
    now_ms = time.time_ns() // 1_000_000
    rows = [_row(key, now_ms) for key in await store.keys(options.role)]
    show(rows, as_json=options.json)


async def _revoke(store: KeyStore, options: argparse.Namespace) -> None:
    role: Role = options.role
    now_ms = time.time_ns() // 1_000_000
    there = await store.key(options.id)
    key = await store.revoke(there.id, now_ms) if there and there.role == role else None
    if key is None:
        raise NotFound(f"There is no {_NOUN[role]} {options.id!r}.")
    told = _REVOKED[role].format(id=key.id)
    print(json.dumps(_row(key, now_ms), indent=2) if options.json else told)


def _row(key: Key, now_ms: int) -> dict[str, Any]:
    """A key as it is listed."""
    whose = {"tenant": key.tenant} if key.role == "client" else {"models": list(key.models)}
    return {
        "id": key.id,
        "name": key.name,
        **whose,
        "state": _state(key, now_ms),
        "created": _date(key.created_ms),
        "expires": _date(key.expires_ms),
        "revoked": _date(key.revoked_ms),
    }


def _state(key: Key, now_ms: int) -> str:
    if key.revoked_ms is not None:
        return "revoked"
    return "expired" if key.expires_ms is not None and key.expires_ms <= now_ms else "valid"


def _date(ms: int | None) -> str | None:
    if ms is None:
        return None
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _named(flag: str, text: str) -> str:
    if not NAME.fullmatch(text):
        raise SettingsError(
            f"{flag} must be 1 to 128 of the characters A-Z a-z 0-9 _ . / : @ + -, got {text!r}"
        )
    return text


def _patterns(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    wrong = [pattern for pattern in found if not _PATTERN.fullmatch(pattern)]
    if wrong or not found:
        raise SettingsError(f"--models must be names or patterns such as 'a,b*', got {text!r}")
    return found


def _expiry(now_ms: int, days: float | None) -> int | None:
    if days is None:
        return None
    if not 0 < days < 36_500:
        raise SettingsError(f"--expires-days must be above 0 and below 36500, got {days:g}")
    return now_ms + int(days * _DAY_MS)
