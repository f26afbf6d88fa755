"""
Why a request got no whole response.

    HttpError
    ├── CannotConnect     nobody listens there
    │   ├── ProxyFailed   the proxy that leads there is not to be used
    │   └── Untrusted     whoever listens is not who the address names
    ├── ConnectTimeout    nobody answered in time whether anybody listens
    ├── Silence           the connection is there, and nothing has come for too long
    ├── HungUp            the connection ended before the response did
    └── NotHttp           what came is no HTTP response, or one beyond all bounds
"""

from __future__ import annotations


class HttpError(OSError):
    """A request that got no whole response."""


class CannotConnect(HttpError):
    """Nobody listens there."""


class ProxyFailed(CannotConnect):
    """The proxy that leads there is away, wants a password or refuses; the message names it."""


class Untrusted(CannotConnect):
    """Who listens there can't prove to be whom the address names."""


class ConnectTimeout(HttpError):
    """Whether anybody listens there was not to be learned in time."""


class Silence(HttpError):
    """Nothing has come for too long."""


class HungUp(HttpError):
    """The connection ended before the response did."""


class NotHttp(HttpError):
    """What came is no response, or its headers have no end."""
