"""
Who asks: each route's caller, and whether the route is for the likes of them.

An edge that has established the caller itself, such as an API gateway's authorizer, puts it into
the ASGI scope as ``scope["state"]["caller"]``. That caller is taken; no client can put one there.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from typing import Annotated, Final, Protocol

from fastapi import Depends, Request

from inferline.caller import ANYONE, LOCAL_TENANT, Caller, Role
from inferline.clock import Clock
from inferline.errors import NotAuthenticated, NotPermitted
from inferline.keyring import Keyring

#: How long a key is taken without a look into its store, and so may still be after it was revoked,
#: has expired, or its scopes have changed.
CACHE_SECONDS: Final = 60.0
#: How many keys are remembered; a key that is not costs the reads of two rows.
CACHE_KEYS_MAX: Final = 10_000

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

    async def caller(self, bearer: str, wanted: Role) -> Caller:
        """
        Whose ``bearer`` is, empty for none. ``wanted`` is who the route is for; whether the caller
        is one of them is not judged here.

        Raises NotAuthenticated, Unavailable, or NotPermitted where there are none of those.
        """


class OpenAccess:
    """Asks for no keys; providers need the one token of the settings, where one is set."""

    def __init__(self, provider_token: str = "") -> None:
        self.asks: frozenset[Role] = frozenset({"provider"} if provider_token else ())
        self._token = provider_token.encode()

    async def caller(self, bearer: str, wanted: Role) -> Caller:
        """Everybody, or a provider that shows the token, and never an administrator."""
        if wanted == "client":
            return ANYONE
        if wanted == "admin":
            # They would open other gateways of the stack, to anybody who reaches this one.
            raise NotPermitted("This gateway asks for no keys, and makes none: INFERLINE_ACCESS.")
        if self._token and not hmac.compare_digest(bearer.encode(), self._token):
            raise NotAuthenticated(
                "The provider token is missing or wrong. Set INFERLINE_PROVIDER_TOKEN at the "
                "provider."
            )
        return Caller(tenant=LOCAL_TENANT, role="provider")


class KeyAccess:
    """Asks everybody for a key, and remembers those that were right for `CACHE_SECONDS`."""

    asks: frozenset[Role] = frozenset({"client", "provider", "admin"})

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._keyring = keyring
        self._clock = clock
        #: By the key's hash, oldest first; no key stays in memory.
        self._known: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    async def caller(self, bearer: str, wanted: Role) -> Caller:
        """The bearer of a key; see `Access`."""
        digest, now = hashlib.sha256(bearer.encode()).digest(), self._clock.monotonic()
        caller, until = self._known.get(digest, (None, 0.0))
        if caller is not None and now < until:
            return caller
        self._known.pop(digest, None)
        caller = await self._keyring.caller(bearer)
        self._known[digest] = caller, now + CACHE_SECONDS
        if len(self._known) > CACHE_KEYS_MAX:
            self._known.popitem(last=False)
        return caller


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
        access: Access = request.app.state.access
        caller = request.state.caller = await access.caller(_bearer(request), wanted)
    if caller.role != wanted:
        raise NotPermitted(_NEEDED[wanted])
    return caller


def _bearer(request: Request) -> str:
    shown = request.headers.get("authorization", "")
    scheme, _, text = shown.partition(" ")
    return text.strip() if scheme.lower() == "bearer" else shown
