"""A running gateway, as the commands read from it."""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from inferline.commands.printing import FAILED, OK, print_error, show
from inferline.http.errors import HttpError
from inferline.http.origin import place
from inferline.http.proxies import Proxies
from inferline.terminal import printable

#: How long the gateway may take to answer, seconds.
_ANSWER_SECONDS_MAX: Final = 20
#: An error of the gateway is far shorter.
_ERROR_BYTES_MAX: Final = 64 * 1024


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Declare the flags that say how to reach the gateway."""
    parser.add_argument(
        "--base-url",
        metavar="URL",
        default=environ.get("INFERLINE_BASE_URL", "http://127.0.0.1:8000"),
        help="the gateway (INFERLINE_BASE_URL; default %(default)s)",
    )
    add_key(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def add_key(parser: argparse.ArgumentParser) -> None:
    """Declare the flag of the API key."""
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help="API key; better set in the environment, which other users of this machine can't "
        "list (INFERLINE_API_KEY)",
    )


def with_key(options: argparse.Namespace, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment with the key of the flag, if there is one."""
    return {**environ, "INFERLINE_API_KEY": options.api_key} if options.api_key else environ


class NoAnswerError(Exception):
    """A gateway's failure to give a usable answer; the message says why."""


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the list at ``options.path`` and return the exit code."""
    try:
        answer = fetch(options.base_url, options.path, with_key(options, environ))
    except NoAnswerError as error:
        print_error(error)
        return FAILED
    show(answer["data"], as_json=options.json)
    return OK


def fetch(base_url: str, path: str, environ: Mapping[str, str]) -> Any:
    """GET the JSON at ``path`` of a gateway, with the environment's key. Raises NoAnswerError."""
    with opened(base_url, path, environ) as response:
        return json.load(response)


def post(
    base_url: str,
    path: str,
    environ: Mapping[str, str],
    body: bytes = b"{}",
    content_type: str = "application/json",
) -> Any:
    """POST a body to ``path`` of a gateway, and return its JSON. Raises NoAnswerError."""
    headers = {"content-type": content_type}
    with opened(base_url, path, environ, body, headers) as response:
        return json.load(response)


@contextmanager
def opened(
    base_url: str,
    path: str,
    environ: Mapping[str, str],
    body: bytes | None = None,
    headers: Mapping[str, str] = {},
) -> Iterator[Any]:
    """
    Send a request to a gateway, with the environment's key, and yield the response to read.

    Raises NoAnswerError, also for what fails while the response is read.
    """
    url = base_url.rstrip("/").removesuffix("/v1") + path
    if not url.startswith(("http://", "https://")):
        raise NoAnswerError(f"{base_url!r} is not an http(s) address")
    key = environ.get("INFERLINE_API_KEY", "")
    request = urllib.request.Request(url, data=body, headers=dict(headers))  # noqa: S310 (see above)
    if key:
        # Not sent on to another host, to which a file's content may be redirected.
        request.add_unredirected_header("authorization", f"Bearer {key}")
    proxies, through = _proxy(url, Proxies.from_env(environ))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    try:
        with opener.open(request, timeout=_ANSWER_SECONDS_MAX) as response:
            yield response
    except urllib.error.HTTPError as error:
        raise NoAnswerError(f"{url} answered {error.code}: {_message(error)}") from error
    except (OSError, ValueError) as error:
        raise NoAnswerError(
            f"no answer from {url}{through}: {error}. Is the gateway up?"
        ) from error


def _proxy(url: str, proxies: Proxies) -> tuple[dict[str, str], str]:
    """
    Return the proxy for an address, as urllib takes it and in words; none for this machine.

    Raises NoAnswerError.
    """
    origin, _ = place(url)
    try:
        proxy = proxies.proxy_for(origin)
    except HttpError as error:
        raise NoAnswerError(str(error)) from error
    if proxy is None:
        return {}, ""
    scheme, set_to = ("https", proxies.https) if origin.is_tls else ("http", proxies.http)
    return {scheme: set_to}, f" through the proxy {proxy.address}"


def _message(error: urllib.error.HTTPError) -> str:
    """Return the gateway's message, or the reason phrase if the answer is not the gateway's own."""
    with error:
        try:
            answer = json.loads(error.read(_ERROR_BYTES_MAX))["error"]
            message, param = str(answer["message"]), answer.get("param")
            if isinstance(param, str) and param not in message:
                message = f"{param}: {message}"
            hint = " Set INFERLINE_API_KEY." if error.code == 401 else ""
            return f"{printable(message)}{hint}"
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return printable(error.reason)
