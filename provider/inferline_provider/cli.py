"""The command ``inferline-provider``: reads the settings, runs a provider, stops it on signals."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from inferline import __version__, logs
from inferline.fleet.enrolment import Grant
from inferline.options import add_arguments, renamed, unknown
from inferline.settings import KNOWN, SettingsError
from inferline.telemetry.otlp import tracing
from inferline.telemetry.trace import Tracer
from inferline_provider.enrolment import EnrolmentRefused, GrantedCredentials, ProviderQuarantined
from inferline_provider.provider import run
from inferline_provider.settings import ProviderSettings, read
from inferline_provider.stopping import Stopping
from inferline_provider.stores import Stores
from inferline_provider.telemetry.attempts import TelemetrySink
from inferline_provider.telemetry.status import ReadCalls, ReadStatus

log = logging.getLogger(__name__)

METRICS_PORT: Final = "METRICS_PORT (--metrics-port)"

DESCRIPTION: Final = """\
Runs beside an OpenAI-compatible LLM server (vLLM, llama.cpp, Ollama and similar), pulls
tasks for its models from the queues of an InferLine gateway, lets the server answer them
and writes the answers back. It opens no port, except for metrics if you set one. Each
flag has an environment variable, in brackets; the flag wins if both are set. The proxy
variables HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY apply.
"""

EPILOG: Final = """\
examples:
  inferline-provider --base-url https://router.example.com --backend http://127.0.0.1:8001
  inferline-provider --backend http://127.0.0.1:11434/v1 --slots 4 --models llama3.2,qwen3
  inferline-provider --alias gpt-oss=/models/gpt-oss-20b.gguf
                     # clients ask for gpt-oss; the LLM server is asked for the file

signals:
  SIGTERM, SIGINT    stop pulling, leave the gateway, finish the tasks that end within
                     --drain-seconds, hand back the others; sent twice: hand back at once

exit codes:
  0  stopped by a signal
  1  a part of the provider failed; start it again
  2  a setting is missing or can't be used
  3  the gateway refused the enrolment, for example because of a wrong token
  4  the gateway has quarantined it for invalid answers: `inferline providers pardon`
"""


def parser() -> argparse.ArgumentParser:
    """Make the command's parser; its help is the manual."""
    command = argparse.ArgumentParser(
        prog="inferline-provider",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    add_arguments(command, ProviderSettings)
    return command


@asynccontextmanager
async def _sink(
    settings: ProviderSettings, calls: ReadCalls, status: ReadStatus
) -> AsyncIterator[TelemetrySink]:
    """Open the sink of telemetry: metrics for Prometheus if they have a port."""
    if settings.metrics_port is None:
        yield TelemetrySink()
        return
    try:
        from inferline_provider.telemetry.metrics import ProviderMetrics, serving
    except ImportError as missing:
        raise SettingsError(
            f"{METRICS_PORT} is set, but what metrics need is not installed: run "
            "`pip install 'inferline[provider]'`, or unset it."
        ) from missing
    metrics, host = ProviderMetrics(status, calls), settings.metrics_host
    async with AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(serving(metrics, host, settings.metrics_port))
        except OSError as error:
            raise SettingsError(f"{METRICS_PORT} can't be used: {error}.") from error
        log.info("Metrics are served. url=http://%s:%d/metrics", host, port)
        yield metrics


async def _run(settings: ProviderSettings, tracer: Tracer) -> None:
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


def _log_warnings(arguments: argparse.Namespace) -> None:
    sources = vars(arguments), os.environ
    for warning in [*renamed(ProviderSettings, *sources), *unknown(os.environ, KNOWN)]:
        log.warning("%s", warning)


def _refuse(error: SettingsError) -> int:
    print(f"inferline-provider: {error}", file=sys.stderr)
    return 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    given = parser().parse_args(arguments)
    try:
        settings = read(os.environ, given)
    except SettingsError as error:
        return _refuse(error)
    logs.write(settings.log_level.upper(), "inferline", "inferline_provider")
    _log_warnings(given)
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
