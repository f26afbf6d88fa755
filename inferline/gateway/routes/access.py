"""
Authentication: resolves a route's caller and checks the caller's role.

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
from inferline.accounts.keys import KEY_HEADERS, key_from_headers
from inferline.clock import Clock
from inferline.errors import NotAuthenticated, NotPermitted

_KEY_HEADERS: Final = frozenset(name.encode() for name in KEY_HEADERS)
#: The hint for a caller of another role, by the route's role.
_NEEDED: Final[dict[Role, str]] = {
    "client": "This address is for clients. `inferline keys create` makes a key for them.",
    "provider": "This address is for providers. `inferline providers token` makes a token.",
    "admin": "This address is for administrators. `inferline keys create --role admin` makes a "
    "key for them.",
}


class Access(Protocol):
    """Resolves callers."""

    #: The roles that need a key or a token.
    protected_roles: frozenset[Role]

    async def caller(self, key: str, wanted: Role) -> Caller:
        """
        Return the caller of a key; it may have another role than ``wanted``, which is the route's.

        Raises NotAuthenticated, Unavailable, or NotPermitted where no caller can have that role.
        """


class OpenAccess:
    """Needs no keys; providers need the token of the settings, if one is set."""

    def __init__(self, provider_token: str = "") -> None:
        self.protected_roles: frozenset[Role] = frozenset({"provider"} if provider_token else ())
        self._token = provider_token.encode()

    async def caller(self, key: str, wanted: Role) -> Caller:
        """Return everybody, or a provider with the token, and never an administrator."""
        if wanted == "client":
            return ANYONE
        if wanted == "admin":
            # Anybody who reaches this gateway could create keys for the stack's other gateways.
            raise NotPermitted("This gateway asks for no keys, and makes none: INFERLINE_ACCESS.")
        if self._token and not hmac.compare_digest(key.encode(), self._token):
            raise NotAuthenticated(
                "The provider token is missing or wrong. Set INFERLINE_PROVIDER_TOKEN at the "
                "provider."
            )
        return Caller(tenant=LOCAL_TENANT, role="provider")


class KeyAccess:
    """Needs a key from everybody, and reads each from the store once a minute."""

    protected_roles: frozenset[Role] = frozenset({"client", "provider", "admin"})

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._keys = KeyCache(keyring, clock)

    async def caller(self, key: str, wanted: Role) -> Caller:
        """Return the bearer of a key; see `Access`."""
        return await self._keys.caller(key)


async def client(request: Request) -> Caller:
    """Return a client route's caller. Raises NotAuthenticated, NotPermitted or Unavailable."""
    return await _admitted(request, "client")


async def provider(request: Request) -> Caller:
    """Return the caller of a route for providers; raises as `client` does."""
    return await _admitted(request, "provider")


async def admin(request: Request) -> Caller:
    """Return the caller of a route for administrators; raises as `client` does."""
    return await _admitted(request, "admin")


ClientCaller = Annotated[Caller, Depends(client)]
ProviderCaller = Annotated[Caller, Depends(provider)]
AdminCaller = Annotated[Caller, Depends(admin)]


async def _admitted(request: Request, wanted: Role) -> Caller:
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        access: Access = request.app.access
        key = _key(request) if wanted in access.protected_roles else ""
        caller = request.state.caller = await access.caller(key, wanted)
    if caller.role != wanted:
        raise NotPermitted(_NEEDED[wanted])
    return caller


def _key(request: Request) -> str:
    values = [value for name, value in request.scope["headers"] if name in _KEY_HEADERS]
    return key_from_headers([value.decode("latin-1") for value in values])
