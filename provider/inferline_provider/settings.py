"""The settings of a provider that its operator chooses; the gateway sends the others."""

from __future__ import annotations

import argparse
import re
import socket
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from inferline import options
from inferline.fleet.enrolment import SLOTS_MAX
from inferline.http.proxies import NO_PROXIES, Proxies
from inferline.names import NAME
from inferline.options import declare, declare_log_level
from inferline.parsing import parse_int, parse_list, parse_names, parse_text, parse_url

#: Where every EC2 instance finds its metadata.
METADATA_ENDPOINT = "http://169.254.169.254"
_NAME_CHARS = "A-Z a-z 0-9 _ . / : @ + -"
_GATEWAY = "gateway"
_BACKEND = "LLM server"
_WORK = "work"


def root_of(value: object) -> str:
    """Return the address of an OpenAI-compatible server without its `/v1`. Raises ValueError."""
    url = parse_url(value)
    parts = urlsplit(url)
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must be an address without user, query and fragment")
    return url.removesuffix("/v1").rstrip("/")


def _parse_name(value: object) -> str:
    if not NAME.fullmatch(name := parse_text(value)):
        raise ValueError(f"must be 1 to 128 of the characters {_NAME_CHARS}")
    return name


def _parse_aliases(value: object) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in parse_list(value)]
    if not all(NAME.fullmatch(public) and backend for public, _, backend in pairs):
        raise ValueError(f"must be PUBLIC=BACKEND, with PUBLIC of the characters {_NAME_CHARS}")
    return {public: backend for public, _, backend in pairs}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """One provider's settings. Keys and tokens never show in `repr`."""

    base_url: str = declare(
        MISSING,
        "Address of the gateway.",
        variable="INFERLINE_BASE_URL",
        flag="--base-url",
        metavar="URL",
        parse=root_of,
        group=_GATEWAY,
    )
    token: str = declare(
        "",
        "Token for the gateway, if it requires one. Better in the environment: other users of this "
        "machine can list the arguments of a process.",
        variable="INFERLINE_PROVIDER_TOKEN",
        flag="--token",
        metavar="TOKEN",
        secret=True,
        group=_GATEWAY,
    )
    id: str = declare(
        "",
        "Name of this provider, unique at the gateway.",
        variable="PROVIDER_ID",
        flag="--id",
        metavar="NAME",
        parse=_parse_name,
        default_text="host name and the backend's port",
        group=_GATEWAY,
    )
    own_credentials: bool = declare(
        False,
        "Sign with this host's own AWS credentials, such as those of an instance role, instead of "
        "credentials that the gateway lends.",
        variable="INFERLINE_OWN_CREDENTIALS",
        flag="--own-credentials",
        group=_GATEWAY,
    )
    endpoint_url: str = declare(
        "",
        "Address of an AWS emulator as seen from this host.",
        variable="AWS_ENDPOINT_URL",
        flag="--aws-endpoint-url",
        metavar="URL",
        default_text="as the gateway says",
        group=_GATEWAY,
    )
    backend: str = declare(
        MISSING,
        "Address of the LLM server, with or without `/v1`.",
        variable="OPENAI_BASE_URL",
        flag="--backend",
        metavar="URL",
        parse=root_of,
        group=_BACKEND,
    )
    backend_key: str = declare(
        "",
        "API key for the LLM server, if it requires one.",
        variable="OPENAI_API_KEY",
        flag="--backend-key",
        metavar="KEY",
        secret=True,
        group=_BACKEND,
    )
    refresh_seconds: float = declare(
        60.0,
        "How often to ask the LLM server for its models, seconds.",
        variable="MODEL_REFRESH_INTERVAL",
        flag="--refresh",
        metavar="SECONDS",
        group=_BACKEND,
    )
    models: tuple[str, ...] = declare(
        (),
        "Serve only these models, separated by commas. If the LLM server has no list of models, "
        "serve these.",
        variable="MODELS",
        flag="--models",
        metavar="A,B",
        default_text="all that it lists",
        parse=parse_names,
        group=_BACKEND,
    )
    #: The backend's names by the public ones.
    aliases: Mapping[str, str] = declare(
        {},
        "Offer the LLM server's model BACKEND as PUBLIC. Repeat the flag for several models; in "
        "the variable separate them by commas.",
        variable="ALIASES",
        flag="--alias",
        metavar="PUBLIC=BACKEND",
        parse=_parse_aliases,
        repeats=True,
        group=_BACKEND,
    )
    slots: int | None = declare(
        None,
        "How many tasks run at once.",
        variable="SLOTS",
        flag="--slots",
        parse=parse_int,
        between=(1, SLOTS_MAX),
        default_text="as many as prove worth it",
        group=_BACKEND,
    )
    first_token_seconds: float = declare(
        5.0,
        "Without `--slots`: how long the LLM server may take to the first token of 95 in 100 "
        "answers.",
        variable="FIRST_TOKEN_SECONDS",
        flag="--first-token-seconds",
        metavar="SECONDS",
        group=_BACKEND,
    )
    fill_slots: float = declare(
        1.0,
        "The share of the slots that lines of batches may have while requests run. With less, "
        "requests are answered faster and batches later.",
        variable="INFERLINE_FILL_SLOTS",
        flag="--fill-slots",
        metavar="SHARE",
        between=(0, 1),
        group=_WORK,
    )
    drain_seconds: float = declare(
        30.0,
        "How long running tasks may continue after SIGTERM.",
        variable="DRAIN_SECONDS",
        flag="--drain-seconds",
        metavar="SECONDS",
        group=_WORK,
    )
    #: Empty: no notice is looked for.
    metadata_endpoint: str = declare(
        "",
        "Address where EC2 announces the end of a spot instance, on which the provider drains.",
        variable="AWS_EC2_METADATA_SERVICE_ENDPOINT",
        flag="--metadata-endpoint",
        metavar="URL",
        default_text=f"{METADATA_ENDPOINT}, on EC2 only",
        group=_WORK,
    )
    no_metadata: bool = declare(
        False,
        "Do not ask EC2 for such an announcement.",
        variable="AWS_EC2_METADATA_DISABLED",
        flag="--no-metadata",
        group=_WORK,
    )
    poll_seconds: int = declare(
        20,
        "How long one poll of an empty queue waits. A stop waits for it; shorter polls cost more "
        "calls.",
        variable="POLL_SECONDS",
        flag="--poll-seconds",
        metavar="SECONDS",
        between=(1, 20),
        group=_WORK,
    )
    alive_file: Path | None = declare(
        None,
        "File to touch at each enrolment while the LLM server is healthy; a health check can look "
        "at its age.",
        variable="ALIVE_FILE",
        flag="--alive-file",
        metavar="PATH",
        parse=Path,
        group=_WORK,
    )
    metrics_port: int | None = declare(
        None,
        "Port for Prometheus, at `/metrics`; 0: any free one.",
        variable="METRICS_PORT",
        flag="--metrics-port",
        metavar="PORT",
        parse=parse_int,
        between=(0, 65535),
        default_text="no port is opened",
        group=_WORK,
    )
    metrics_host: str = declare(
        "127.0.0.1",
        "Address of that port; other machines cannot reach the default.",
        variable="METRICS_HOST",
        flag="--metrics-host",
        metavar="ADDRESS",
        group=_WORK,
    )
    log_level: str = declare_log_level(variable="LOG_LEVEL", group=_WORK)
    #: The proxies to the gateway, to AWS and to the backend where they are not on this machine.
    proxies: Proxies = NO_PROXIES


def read(environ: Mapping[str, str], arguments: argparse.Namespace) -> ProviderSettings:
    """Return the settings, with the defaults that depend on others. Raises SettingsError."""
    proxies = Proxies.from_env(environ)
    settings = options.read(ProviderSettings, environ, arguments, proxies=proxies)
    endpoint = "" if settings.no_metadata else settings.metadata_endpoint or METADATA_ENDPOINT
    name = settings.id or _default_name(settings.backend)
    return replace(settings, id=name, metadata_endpoint=endpoint)


def _default_name(backend: str) -> str:
    """Return a name that is the same at every start, and another for each backend of a host."""
    host = re.sub(r"[^A-Za-z0-9_.-]+", "-", socket.gethostname())[:100] or "provider"
    port = urlsplit(backend).port
    return f"{host}-{port}" if port else host
