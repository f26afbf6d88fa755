"""The choice of a proxy, by the variables that curl and most programs use."""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from inferline.http.errors import ProxyFailed
from inferline.http.origin import Origin, place


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's address and credentials."""

    origin: Origin
    #: The value of Proxy-Authorization; empty: none is sent.
    authorization: str = field(default="", repr=False)

    @property
    def address(self) -> str:
        """Return its address without name and password, for messages."""
        return f"http{'s' * self.origin.is_tls}://{self.origin.authority}"


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies' addresses as configured; they may hold passwords, so ``repr`` hides them."""

    #: For http addresses, and for https ones; empty: none.
    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    #: Hosts that need no proxy: names, suffixes, addresses and networks, by commas or spaces.
    exempt: str = ""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the proxies from an environment. Lower-case names take precedence."""

        def first(*names: str) -> str:
            spellings = (name for variable in names for name in (variable.lower(), variable))
            texts = (environ.get(name, "").strip() for name in spellings)
            return next(filter(None, texts), "")

        # A client of a CGI program sets HTTP_PROXY there, with a header `Proxy`.
        http = environ.get("http_proxy", "") if "REQUEST_METHOD" in environ else first("HTTP_PROXY")
        rest = first("ALL_PROXY")
        return cls(http or rest, first("HTTPS_PROXY") or rest, first("NO_PROXY"))

    def environment(self) -> dict[str, str]:
        """Return the variables of these proxies, all of them in capitals."""
        return {"HTTP_PROXY": self.http, "HTTPS_PROXY": self.https, "NO_PROXY": self.exempt}

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """
        Return the proxy for ``origin``; None for a direct connection, as always to this machine.

        Raises ProxyFailed if its address can't be used.
        """
        return _proxy_of(self, origin) if self.http or self.https else None


NO_PROXIES: Final = Proxies()


@lru_cache(maxsize=256)
def _proxy_of(proxies: Proxies, origin: Origin) -> Proxy | None:
    text = proxies.https if origin.is_tls else proxies.http
    if not text or is_exempt(origin.host, origin.port, proxies.exempt):
        return None
    address = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(address)
        if not parts.hostname:
            raise ValueError("there is no host")
        return Proxy(place(address)[0], _authorization(parts.username, parts.password))
    except (ValueError, KeyError):  # No host, a port that is no number, or another scheme.
        scheme = "https" if origin.is_tls else "http"
        raise ProxyFailed(
            f"The proxy for {scheme} addresses can't be used: it must be an http:// or https:// "
            f"address. Set {scheme.upper()}_PROXY to one, or name {origin.host} in NO_PROXY."
        ) from None


def _authorization(name: str | None, password: str | None) -> str:
    if name is None:
        return ""
    both = f"{unquote(name)}:{unquote(password or '')}"
    return f"Basic {b64encode(both.encode()).decode()}"


def is_exempt(host: str, port: int, exempt: str) -> bool:
    """Return True if a host needs no proxy: this machine, and what ``exempt`` lists."""
    name = host.rstrip(".").lower()
    ip = _ip(name)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    if ip is not None and (ip.is_loopback or ip.is_unspecified):
        return True
    entries = exempt.replace(",", " ").lower().split()
    return any(_matches(entry, name, ip, port) for entry in entries)


_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def _matches(entry: str, name: str, ip: _Ip | None, port: int) -> bool:
    if entry == "*":
        return True
    entry, wanted = _split_port(entry)
    if wanted not in ("", str(port)):
        return False
    if ip is not None:
        try:
            return ip in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    suffix = entry.removeprefix("*").strip(".")
    return bool(suffix) and (name == suffix or name.endswith(f".{suffix}"))


def _split_port(entry: str) -> tuple[str, str]:
    """Split an entry into host and port; an IPv6 address with a port stands in brackets."""
    if entry.startswith("["):
        entry, _, rest = entry[1:].partition("]")
        return entry, rest.removeprefix(":")
    if entry.count(":") == 1:
        entry, _, port = entry.partition(":")
        return entry, port
    return entry, ""


def _ip(name: str) -> _Ip | None:
    try:
        ip = ipaddress.ip_address(name)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip
