"""The commands that print one of a running gateway's lists."""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from inferline.commands.printing import FAILED, OK, show
from inferline.http.errors import HttpError
from inferline.http.origin import place
from inferline.http.proxies import Proxies

#: How long the gateway may take to answer, seconds.
_ANSWER_SECONDS_MAX: Final = 20
#: An error of the gateway is far shorter.
_ERROR_BYTES_MAX: Final = 64 * 1024


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Declare how a gateway is reached."""
    parser.add_argument(
        "--base-url",
        metavar="URL",
        default=environ.get("INFERLINE_BASE_URL", "http://127.0.0.1:8000"),
        help="the gateway (INFERLINE_BASE_URL; default %(default)s)",
    )
    add_key(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def add_key(parser: argparse.ArgumentParser) -> None:
    """Declare what is shown to a gateway that asks for keys."""
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help="shown to a gateway that asks for keys; better in the environment, which other "
        "users of this machine can't list (INFERLINE_API_KEY)",
    )


def keyed(options: argparse.Namespace, environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment, with the key that was given as a flag."""
    return {**environ, "INFERLINE_API_KEY": options.api_key} if options.api_key else environ


class NoAnswerError(Exception):
    """The gateway did not tell; the message says why."""


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the list at ``options.path``. Returns the exit code."""
    try:
        told = fetch(options.base_url, options.path, keyed(options, environ))
    except NoAnswerError as error:
        print(f"inferline: {error}", file=sys.stderr)
        return FAILED
    show(told["data"], as_json=options.json)
    return OK


def fetch(base_url: str, path: str, environ: Mapping[str, str]) -> Any:
    """What a gateway tells at ``path``, asked with the environment's key. Raises NoAnswerError."""
    url = base_url.rstrip("/").removesuffix("/v1") + path
    if not url.startswith(("http://", "https://")):
        raise NoAnswerError(f"{base_url!r} is not an http(s) address")
    key = environ.get("INFERLINE_API_KEY", "")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (http only, see above)
    proxies, way = _way(url, Proxies.from_env(environ))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    try:
        with opener.open(request, timeout=_ANSWER_SECONDS_MAX) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise NoAnswerError(f"{url} answered {error.code}: {_message(error)}") from error
    except (OSError, ValueError) as error:
        raise NoAnswerError(f"no answer from {url}{way}: {error}. Is the gateway up?") from error


def _way(url: str, proxies: Proxies) -> tuple[dict[str, str], str]:
    """
    The proxy by which an address is asked, for urllib and in words; none for this machine.

    Raises NoAnswerError.
    """
    origin, _ = place(url)
    try:
        proxy = proxies.of(origin)
    except HttpError as error:
        raise NoAnswerError(str(error)) from error
    if proxy is None:
        return {}, ""
    scheme, set_to = ("https", proxies.https) if origin.is_tls else ("http", proxies.http)
    return {scheme: set_to}, f" through the proxy {proxy.address}"


def _message(error: urllib.error.HTTPError) -> str:
    """What the gateway says, or the status in words where that is not the gateway's own answer."""
    with error:
        try:
            told = json.loads(error.read(_ERROR_BYTES_MAX))["error"]
            hint = " Set INFERLINE_API_KEY." if error.code == 401 else ""
            return f"{told['message']}{hint}"
        except (OSError, ValueError, KeyError, TypeError):
            return error.reason
