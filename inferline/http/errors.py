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
    """A refused connection: nobody listens there."""


class ProxyFailed(CannotConnect):
    """A proxy that can't be reached, wants a password or refuses; the message names it."""


class Untrusted(CannotConnect):
    """A server that can't prove to be the one that the address names."""


class ConnectTimeout(HttpError):
    """A connection that was not established in time."""


class Silence(HttpError):
    """A response of which nothing has come for too long."""


class HungUp(HttpError):
    """A connection that ended before the response did."""


class NotHttp(HttpError):
    """A response that is not HTTP, or whose headers have no end."""
