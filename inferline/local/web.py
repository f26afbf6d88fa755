"""
Asks a part over HTTP whether it is up, with nothing but the standard library.

As a command, `python -m inferline.local.web URL`, it is a container's health check.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

# A proxy of the user's must not come between the parts.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NoAnswer(Exception):
    """The lack of a usable answer; the message says what came instead."""


def ask(url: str, body: Any = None, timeout_seconds: float = 2.0, key: str = "") -> Any:
    """
    GET the JSON at an address, or POST a body to it; `key` is sent as a bearer token.

    Raises NoAnswer for everything but a 2xx with JSON. Blocking.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - our own URLs
    try:
        with _opener.open(request, timeout=timeout_seconds) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            raise NoAnswer(f"{url} answered {error.code}: {_message(error.read(4096))}") from error
    except (OSError, ValueError) as error:
        raise NoAnswer(f"{url} gave no answer ({error})") from error


def exists(url: str) -> bool:
    """Return True if a GET brings a 2xx. Blocking."""
    try:
        with _opener.open(url, timeout=2.0):
            return True
    except OSError:
        return False


def models(base_url: str) -> list[str]:
    """Return the names that GET /v1/models lists. Raises NoAnswer."""
    try:
        return [model["id"] for model in ask(f"{base_url}/v1/models")["data"]]
    except (KeyError, TypeError) as error:
        raise NoAnswer(f"{base_url}/v1/models did not answer with a list of models") from error


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace").strip()


if __name__ == "__main__":
    sys.exit(0 if exists(sys.argv[1]) else 1)
