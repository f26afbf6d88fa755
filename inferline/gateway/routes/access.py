"""
Who asks: each route's caller, and whether the route is for the likes of them.

An edge that has established the caller itself, such as an API gateway's authorizer, puts it into
the ASGI scope as ``scope["state"]["caller"]``. That caller is taken; no client can put one there.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Final, Protocol

from fastapi import Depends, Request

from inferline.accounts.caller import ANYONE, LOCAL_TENANT, Caller, Role
from inferline.accounts.key_cache import KeyCache
from inferline.accounts.keyring import Keyring
from inferline.accounts.keys import KEY_HEADERS, shown_key
from inferline.clock import Clock
from inferline.errors import NotAuthenticated, NotPermitted

_KEY_HEADERS: Final = frozenset(name.encode() for name in KEY_HEADERS)
#: What to show instead, by whom a route is for.
_NEEDED: Final[dict[Role, str]] = {
    "client": "This address is for clients. `inferline keys create` makes a key for them.",
    "provider": "This address is for providers. `inferline providers token` makes a token.",
    "admin": "This address is for administrators. `inferline keys create --role admin` makes a "
    "key for them.",
}


class Access(Protocol):
    """Establishes who asks."""

    #: Who has to show a key or a token.
    asks: frozenset[Role]

    async def caller(self, shown: str, wanted: Role) -> Caller:
        """
        Whose the key ``shown`` is, empty for none. ``wanted`` is who the route is for; whether the
        caller is one of them is not judged here.

        Raises NotAuthenticated, Unavailable, or NotPermitted where there are none of those.
        """


class OpenAccess:
    """Asks for no keys; providers need the one token of the settings, where one is set."""

    def __init__(self, provider_token: str = "") -> None:
        self.asks: frozenset[Role] = frozenset({"provider"} if provider_token else ())
        self._token = provider_token.encode()

    async def caller(self, shown: str, wanted: Role) -> Caller:
        """Everybody, or a provider that shows the token, and never an administrator."""
        if wanted == "client":
            return ANYONE
        if wanted == "admin":
            # They would open other gateways of the stack, to anybody who reaches this one.
            raise NotPermitted("This gateway asks for no keys, and makes none: INFERLINE_ACCESS.")
        if self._token and not hmac.compare_digest(shown.encode(), self._token):
            raise NotAuthenticated(
                "The provider token is missing or wrong. Set INFERLINE_PROVIDER_TOKEN at the "
                "provider."
            )
        return Caller(tenant=LOCAL_TENANT, role="provider")


class KeyAccess:
    """Asks everybody for a key, and looks each up once a minute."""

    asks: frozenset[Role] = frozenset({"client", "provider", "admin"})

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._known = KeyCache(keyring, clock)

    async def caller(self, shown: str, wanted: Role) -> Caller:
        """The bearer of a key; see `Access`."""
        return await self._known.caller(shown)


async def client(request: Request) -> Caller:
    """The caller of a route for clients. Raises NotAuthenticated, NotPermitted or Unavailable."""
    return await _admitted(request, "client")


async def provider(request: Request) -> Caller:
    """The caller of a route for providers; raises as `client` does."""
    return await _admitted(request, "provider")


async def admin(request: Request) -> Caller:
    """The caller of a route for administrators; raises as `client` does."""
    return await _admitted(request, "admin")


ClientCaller = Annotated[Caller, Depends(client)]
ProviderCaller = Annotated[Caller, Depends(provider)]
AdminCaller = Annotated[Caller, Depends(admin)]


async def _admitted(request: Request, wanted: Role) -> Caller:
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        access: Access = request.app.access
        shown = _shown(request) if wanted in access.asks else ""
        caller = request.state.caller = await access.caller(shown, wanted)
    if caller.role != wanted:
        raise NotPermitted(_NEEDED[wanted])
    return caller


def _shown(request: Request) -> str:
    values = [value for name, value in request.scope["headers"] if name in _KEY_HEADERS]
    return shown_key([value.decode("latin-1") for value in values])
