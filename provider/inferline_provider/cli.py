"""The command ``inferline-provider``: reads the settings, runs a provider, stops it on signals."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from inferline import __version__, logs
from inferline.fleet.enrolment import Grant
from inferline.http.proxies import Proxies
from inferline.names import NAME
from inferline.settings import SettingsError
from inferline.telemetry.otlp import tracing
from inferline.telemetry.trace import Tracer
from inferline_provider.backend.client import root_of
from inferline_provider.enrolment import EnrolmentRefused, GrantedCredentials, ProviderQuarantined
from inferline_provider.provider import Stores, run
from inferline_provider.settings import Settings
from inferline_provider.spot import ENDPOINT
from inferline_provider.stopping import Stopping
from inferline_provider.telemetry.attempts import TelemetrySink
from inferline_provider.telemetry.status import ReadCalls, ReadStatus

log = logging.getLogger(__name__)

DESCRIPTION: Final = """\
Stands beside an OpenAI-compatible LLM server (vLLM, llama.cpp, Ollama and the like),
pulls tasks for its models from an InferLine gateway's queues, has them answered and
writes the answers back. It opens no port, unless it is asked for metrics. Each flag
can be set in the environment instead; the name stands behind it. A flag goes before
the environment. HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY are honoured.
"""

EPILOG: Final = """\
examples:
  inferline-provider --base-url https://router.example.com --backend http://127.0.0.1:8001
  inferline-provider --backend http://127.0.0.1:11434/v1 --slots 4 --models llama3.2,qwen3
  inferline-provider --alias gpt-oss=/models/gpt-oss-20b.gguf
                     # clients ask for gpt-oss; the LLM server is asked for the file

signals:
  SIGTERM, SIGINT    pull nothing more, leave the gateway, finish what ends within
                     --drain-seconds, hand back the rest; once more: hand back at once

exit codes:
  0  stopped as asked
  1  a part of the provider died; start it again
  2  a setting is missing or can't be used
  3  the gateway refused the enrolment, as for a wrong token
  4  the gateway has quarantined it for what it wrote: `inferline providers pardon`
"""


def parser() -> argparse.ArgumentParser:
    """Make the command's parser; its help is the manual."""
    found = argparse.ArgumentParser(
        prog="inferline-provider",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_gateway(found.add_argument_group("gateway"))
    _add_backend(found.add_argument_group("LLM server"))
    _add_work(found.add_argument_group("work"))
    return found


def _add_gateway(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--base-url", metavar="URL", help="the gateway's address [INFERLINE_BASE_URL]"
    )
    group.add_argument(
        "--token",
        help="shown to the gateway; better in the environment, which other users of this "
        "machine can't list [INFERLINE_PROVIDER_TOKEN]",
    )
    group.add_argument(
        "--id",
        metavar="NAME",
        help="this provider's name, unique at the gateway; default: host name and backend's "
        "port [PROVIDER_ID]",
    )
    group.add_argument(
        "--aws-endpoint-url",
        metavar="URL",
        help="where AWS is as seen from here, if an emulator; default: where the gateway says "
        "[AWS_ENDPOINT_URL]",
    )
    group.add_argument(
        "--own-credentials",
        action="store_true",
        help="sign with this host's own AWS credentials, such as an EC2 instance role, where the "
        "gateway would lend some [INFERLINE_OWN_CREDENTIALS, 1 for yes]",
    )


def _add_backend(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--backend", metavar="URL", help="its address, with or without /v1 [OPENAI_BASE_URL]"
    )
    group.add_argument(
        "--backend-key", metavar="KEY", help="its API key, if it wants one [OPENAI_API_KEY]"
    )
    group.add_argument(
        "--refresh",
        metavar="SECONDS",
        help="between two looks at its models; default: 60 [MODEL_REFRESH_INTERVAL]",
    )
    group.add_argument(
        "--models", metavar="A,B", help="serve just these; default: all that it lists [MODELS]"
    )
    group.add_argument(
        "--alias",
        metavar="PUBLIC=BACKEND",
        action="append",
        help="offer its model BACKEND as PUBLIC; may be given several times [ALIASES, by commas]",
    )
    group.add_argument(
        "--slots",
        metavar="N",
        help="how many tasks run at once; default: as many as are found to be worth it [SLOTS]",
    )
    group.add_argument(
        "--first-token-seconds",
        metavar="SECONDS",
        help="without --slots: how long the LLM server may take to a first token, in 95 of 100 "
        "cases; default: 5 [FIRST_TOKEN_SECONDS]",
    )


def _add_work(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--drain-seconds",
        metavar="SECONDS",
        help="how long running tasks may go on after a stop; default: 30 [DRAIN_SECONDS]",
    )
    group.add_argument(
        "--metadata-endpoint",
        metavar="URL",
        help="where EC2 tells that a spot instance ends, which is a reason to drain; default: "
        "169.254.169.254, asked only on EC2 [AWS_EC2_METADATA_SERVICE_ENDPOINT]",
    )
    group.add_argument(
        "--no-metadata",
        action="store_true",
        help="never look for such a notice [AWS_EC2_METADATA_DISABLED, 1 for yes]",
    )
    group.add_argument(
        "--poll-seconds",
        metavar="SECONDS",
        help="how long one look at an empty queue waits, 1 to 20; a stop waits for it, and "
        "shorter ones cost more calls; default: 20 [POLL_SECONDS]",
    )
    group.add_argument(
        "--alive-file",
        metavar="PATH",
        help="a file to touch at each enrolment while the LLM server is well; a health check "
        "looks at its age [ALIVE_FILE]",
    )
    group.add_argument(
        "--metrics-port",
        metavar="PORT",
        help="tell Prometheus at this port, under /metrics; default: open no port [METRICS_PORT]",
    )
    group.add_argument(
        "--metrics-host",
        metavar="ADDRESS",
        help="the address of that port; default: 127.0.0.1, this machine only [METRICS_HOST]",
    )
    group.add_argument(
        "--log-level",
        metavar="LEVEL",
        help="debug, info, warning or error; default: info [LOG_LEVEL]",
    )


#: The environment variable of each flag.
ENV: Final = {
    "base_url": "INFERLINE_BASE_URL",
    "token": "INFERLINE_PROVIDER_TOKEN",
    "id": "PROVIDER_ID",
    "aws_endpoint_url": "AWS_ENDPOINT_URL",
    "own_credentials": "INFERLINE_OWN_CREDENTIALS",
    "backend": "OPENAI_BASE_URL",
    "backend_key": "OPENAI_API_KEY",
    "refresh": "MODEL_REFRESH_INTERVAL",
    "models": "MODELS",
    "alias": "ALIASES",
    "slots": "SLOTS",
    "first_token_seconds": "FIRST_TOKEN_SECONDS",
    "drain_seconds": "DRAIN_SECONDS",
    "metadata_endpoint": "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "no_metadata": "AWS_EC2_METADATA_DISABLED",
    "poll_seconds": "POLL_SECONDS",
    "alive_file": "ALIVE_FILE",
    "metrics_port": "METRICS_PORT",
    "metrics_host": "METRICS_HOST",
    "log_level": "LOG_LEVEL",
}


_SWITCH: Final = {"": False, "0": False, "false": False, "1": True, "true": True}


def read(arguments: Sequence[str] | None, environ: Mapping[str, str]) -> tuple[Settings, str]:
    """Return the settings and the log level. Raises SettingsError."""
    given = vars(parser().parse_args(arguments))
    found = {name: given[name] or environ.get(env, "") for name, env in ENV.items()}
    backend = _address(found["backend"], "backend", "the LLM server's address")
    level = found["log_level"].upper() or "INFO"
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise SettingsError("LOG_LEVEL (--log-level) must be debug, info, warning or error.")
    is_off = given["no_metadata"] or _switched(found, "no_metadata")
    slots, poll_seconds = _number(found, "slots", 0), _number(found, "poll_seconds", 20)
    settings = Settings(
        base_url=_address(found["base_url"], "base_url", "the gateway's address"),
        token=found["token"],
        backend=backend,
        backend_key=found["backend_key"],
        id=_name(found["id"], backend),
        slots=int(slots) or None,
        first_token_seconds=_number(found, "first_token_seconds", 5),
        refresh_seconds=_number(found, "refresh", 60),
        models=tuple(_listed(found["models"])),
        aliases=_aliases(found["alias"]),
        drain_seconds=_number(found, "drain_seconds", 30),
        metadata_endpoint="" if is_off else found["metadata_endpoint"] or ENDPOINT,
        poll_seconds=min(20, max(1, int(poll_seconds))),
        endpoint_url=found["aws_endpoint_url"],
        proxies=Proxies.from_env(environ),
        own_credentials=given["own_credentials"] or _switched(found, "own_credentials"),
        alive_file=Path(found["alive_file"]) if found["alive_file"] else None,
        metrics_port=_port(found, "metrics_port"),
        metrics_host=found["metrics_host"] or "127.0.0.1",
    )
    return settings, level


def _title(name: str) -> str:
    return f"{ENV[name]} (--{name.replace('_', '-')})"


def _address(text: str, name: str, what: str) -> str:
    if not text:
        raise SettingsError(f"{_title(name)} is not set; give {what}.")
    try:
        return root_of(text)
    except ValueError as error:
        raise SettingsError(f"{_title(name)} can't be used: {error}.") from None


def _number(found: Mapping[str, str], name: str, default: float) -> float:
    if not (text := found[name]):
        return default
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", text) or float(text) == 0:
        raise SettingsError(f"{_title(name)} must be a number above 0, got {text!r}.")
    return float(text)


def _port(found: Mapping[str, str], name: str) -> int | None:
    if not (text := found[name]):
        return None
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > 65535:
        raise SettingsError(f"{_title(name)} must be a port, 0 to 65535, got {text!r}.")
    return int(text)


def _switched(found: Mapping[str, str], name: str) -> bool:
    if found[name].lower() not in _SWITCH:
        raise SettingsError(f"{_title(name)} must be 1 or 0, got {found[name]!r}.")
    return _SWITCH[found[name].lower()]


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _aliases(given: str | list[str]) -> dict[str, str]:
    found = {}
    for pair in _listed(given) if isinstance(given, str) else given:
        public, _, backend = pair.partition("=")
        if not (public and backend and NAME.fullmatch(public)):
            raise SettingsError(
                f"{_title('alias')} must read PUBLIC=BACKEND, and PUBLIC be of the characters "
                f"A-Z a-z 0-9 _ . / : @ + -, got {pair!r}."
            )
        found[public] = backend
    return found


def _name(given: str, backend: str) -> str:
    """Return this provider's name: the same at every start, another for each backend of a host."""
    if given:
        if not NAME.fullmatch(given):
            raise SettingsError(
                f"{_title('id')} must be 1 to 128 of the characters A-Z a-z 0-9 _ . / : @ + -."
            )
        return given
    host = re.sub(r"[^A-Za-z0-9_.-]+", "-", socket.gethostname())[:100] or "provider"
    port = urlsplit(backend).port
    return f"{host}-{port}" if port else host


@asynccontextmanager
async def _sink(
    settings: Settings, calls: ReadCalls, status: ReadStatus
) -> AsyncIterator[TelemetrySink]:
    """Open the metrics for Prometheus where they have a port, else a sink that keeps nothing."""
    if settings.metrics_port is None:
        yield TelemetrySink()
        return
    try:
        from inferline_provider.telemetry.metrics import ProviderMetrics, serving
    except ImportError as missing:
        raise SettingsError(
            f"{_title('metrics_port')} is set, but what tells metrics is not installed: run "
            "`pip install 'inferline[provider]'`, or unset it."
        ) from missing
    metrics, host = ProviderMetrics(status, calls), settings.metrics_host
    async with AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(serving(metrics, host, settings.metrics_port))
        except OSError as error:
            raise SettingsError(f"{_title('metrics_port')} can't be used: {error}.") from error
        log.info("Metrics are told. url=http://%s:%d/metrics", host, port)
        yield metrics


async def _run(settings: Settings, tracer: Tracer) -> None:
    from inferline.aws.stores import open_provider_stores

    stopping = Stopping()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.ask)
    calls: Mapping[tuple[str, str], int] = {}

    @asynccontextmanager
    async def open_stores(grant: Grant, credentials: GrantedCredentials) -> AsyncIterator[Stores]:
        nonlocal calls
        async with open_provider_stores(grant, credentials, settings.proxies) as stores:
            calls = stores.client.calls
            yield stores

    # What is there by now stays: who looks for garbage need not look at it each time.
    gc.freeze()
    open_sink = partial(_sink, settings, lambda: calls)
    await run(settings, open_stores, stopping, tracer=tracer, open_sink=open_sink)


def _loop_factory() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _refuse(error: SettingsError) -> int:
    print(f"inferline-provider: {error}", file=sys.stderr)
    return 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    try:
        settings, level = read(arguments, os.environ)
    except SettingsError as error:
        return _refuse(error)
    logs.write(level, "inferline", "inferline_provider")
    try:
        with (
            tracing(os.environ, "inferline-provider") as tracer,
            asyncio.Runner(loop_factory=_loop_factory) as runner,
        ):
            runner.run(_run(settings, tracer))
    except SettingsError as error:
        return _refuse(error)
    except EnrolmentRefused as error:
        log.error("The gateway does not take this provider: %s", error)
        return 4 if isinstance(error, ProviderQuarantined) else 3
    except ExceptionGroup as group:
        log.error("A part of the provider died; it stops.", exc_info=group)
        return 4 if group.subgroup(ProviderQuarantined) else 1
    return 0
